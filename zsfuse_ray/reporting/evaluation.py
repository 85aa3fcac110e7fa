"""``evaluation.json`` as a Markdown page with tables, protocol and figures."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zsfuse_ray.reporting.canvas import FIGURES, write_figures
from zsfuse_ray.reporting.cells import percent, points
from zsfuse_ray.reporting.plots import draw
from zsfuse_ray.runs.folder import Output

PAGE = "evaluation.md"
FEWEST_TO_CHOOSE = 5  # speakers; the page says if choices rest on fewer
_METRICS = {"ua": "UA", "wa": "WA", "macro_f1": "macro-F1", "ece": "ECE"}


def write(out: Output, result: Mapping[str, Any]) -> str:
    """Write evaluation.md and figures/ of an evaluation; returns the summary to print."""
    for corpus, table in result["corpora"].items():
        drawn = draw(corpus, table)
        write_figures(out, ((f"{file_name(corpus)}_{name}", figure) for name, figure in drawn))
    out.write_bytes(PAGE, page(result).encode())
    return "\n".join([*_overview(result), "", f"page: {out.uri}/{PAGE}   figures: {out.uri}/{FIGURES}"])


def file_name(corpus: str) -> str:
    """The corpus' name as part of a file's."""
    return re.sub(r"[^\w-]", "_", corpus)


def page(result: Mapping[str, Any]) -> str:
    """Return the whole page."""
    lines = ["# Evaluation", "", *_overview(result), "", "## Models", "", *_models(result)]
    for corpus, table in result["corpora"].items():
        lines += ["", f"## {corpus}", "", *_corpus(corpus, table, result["templates"])]
    lines += ["", "## How to read it", "", *_explained(result)]
    return "\n".join(lines) + "\n"


def _overview(result: Mapping[str, Any]) -> Iterator[str]:
    """UA of every system on every corpus, and the verdict on fusion."""
    corpora = result["corpora"]
    several = len(corpora) > 1
    yield (
        "| UA in % (95 % interval over speakers) | "
        + " | ".join(corpora)
        + (" | mean |" if several else " |")
    )
    yield "|---|" + "---|" * (len(corpora) + several)
    names = {key: system["name"] for table in corpora.values() for key, system in table["systems"].items()}
    for key, name in names.items():
        cells = [percent(table["systems"].get(key, {}).get("ua")) for table in corpora.values()]
        if several:
            cells.append(percent(result["mean"]["ua"].get(key)))
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    for corpus, table in corpora.items():
        if "verdict" in table:
            yield f"{corpus}: {table['verdict']}  "
        if "svm" in table["systems"]:
            ua = {key: system["ua"]["value"] for key, system in table["systems"].items()}
            svm, best = (
                ua["svm"],
                max(value for key, value in ua.items() if key not in ("svm", "zs_fuse_svm")),
            )
            if best <= svm:
                against = f"{100 * svm:.1f} against at most {100 * best:.1f}"
                yield f"{corpus}: no model beats the SVM ({against}).  "
    if several and "difference" in result["mean"]:
        yield f"mean: ZS-Fuse − specialist {points(result['mean']['difference'])}  "
    for corpus, table in corpora.items():
        if why := table["protocol"]["no_interval"]:
            yield f"{corpus}: no intervals: {why}.  "
    if several and (why := result["mean"]["no_interval"]):
        yield f"mean: no intervals: {why}.  "
    for warning in result["seen_in_training"].values():
        yield f"In-sample? {warning}.  "


def _models(result: Mapping[str, Any]) -> Iterator[str]:
    if not result["models"]:
        yield "none"
    for kind, card in result["models"].items():
        revision = f", revision {card['revision']}" if card["revision"] else ""
        yield f"- {kind}: `{card['model']}`{revision}, licence {card['licence'] or 'not stated'}"
        if "labels" in card:
            yield f"  - labels: {', '.join(card['labels'])}"
        if any(card.get("prompts_truncated", {}).values()):
            cut = ", ".join(f"{n} of b={b}" for b, n in card["prompts_truncated"].items() if n)
            yield f"  - prompts truncated to the text encoder's maximum length: {cut}"
    if result["normalised"]:
        yield f"- on vectors normalised by speaker: {', '.join(result['normalised'])}"
    yield f"- code: zsfuse_ray {result['versions']['zsfuse_ray']}, git {result['git'] or 'none'}"


def _corpus(corpus: str, table: Mapping[str, Any], templates: list[str]) -> Iterator[str]:
    yield from _protocol(table)
    yield ""
    yield "| % | " + " | ".join(_METRICS.values()) + " |"
    yield "|---|" + "---|" * len(_METRICS)
    for system in table["systems"].values():
        yield f"| {system['name']} | " + " | ".join(percent(system[metric]) for metric in _METRICS) + " |"
    if table["calibration"]:
        yield ""
        yield from _calibration(table)
    if "differences" in table:
        yield ""
        yield f"**{table['verdict']}**"
        yield ""
        yield "Paired differences of UA, on the same resampled speakers:"
        yield ""
        for pair, gain in table["differences"].items():
            names = [table["systems"][key]["name"] for key in pair.split(" - ")]
            yield f"- {names[0]} − {names[1]}: {points(gain)}"
    yield ""
    yield "Recall by emotion:"
    yield ""
    yield "| % | " + " | ".join(table["labels"]) + " |"
    yield "|---|" + "---|" * len(table["labels"])
    for system in table["systems"].values():
        if "recall" in system:
            cells = ["–" if r is None else f"{100 * r:.0f}" for r in system["recall"]]
            yield f"| {system['name']} | " + " | ".join(cells) + " |"
    yield ""
    yield "Chosen on dev speakers:"
    yield ""
    for n, choices in enumerate(table["choices"], start=1):
        fold = f"fold {n}: " if len(table["choices"]) > 1 else ""
        for system, chosen in choices.items():
            yield f"- {fold}{table['systems'][system]['name']}: {_chosen(chosen, templates)}"
    yield ""
    for name, _ in draw(corpus, table):
        yield f"![{corpus} {name}]({FIGURES}/{file_name(corpus)}_{name}.png)"


def _calibration(table: Mapping[str, Any]) -> Iterator[str]:
    yield "Calibration before (all temperatures 1) and after the temperatures fitted on dev speakers:"
    yield ""
    yield "| | ECE in % before | after | NLL in nats before | after |"
    yield "|---|---|---|---|---|"
    for key, both in table["calibration"].items():
        cells = [percent(both[when]["ece"]) for when in ("before", "after")]
        cells += [f"{both[when]['nll']:.3f}" for when in ("before", "after")]
        yield f"| {table['systems'][key]['name']} | {' | '.join(cells)} |"


def _protocol(table: Mapping[str, Any]) -> Iterator[str]:
    facts = table["protocol"]
    parts = facts["parts"]
    size_of = {
        part: f"{size['clips']:,} clips of {_speakers(size['speakers'])}" for part, size in parts.items()
    }
    sizes = "; ".join(f"{part} {size}" for part, size in size_of.items())
    if parts["train"] == parts["test"]:
        sizes = f"{size_of['test']}, in each fold one part is tested, the others are for choices and the SVM"
    yield f"- labels ({len(table['labels'])}): {', '.join(table['labels'])}"
    if table["unknown_to_specialist"]:
        yield f"  - not covered by the specialist: {', '.join(table['unknown_to_specialist'])}"
    yield f"- merged classes: {facts['merged']}"
    if facts["licence"]:
        yield f"- licence of the data: {facts['licence']}"
    yield f"- clips: {facts['splits']}; {sizes}"
    yield f"- averaging: {facts['averaging']}"
    yield f"- speaker overlap of the test part with train and dev: {facts['speaker_overlap']}"
    repeats = table.get("amplification", {"a": [], "same_input": []})
    for a, same in zip(repeats["a"], repeats["same_input"], strict=True):
        if a > 1 and same > 0:
            share = f"{same:.0%} of the clips"
            yield f"- audio × {a}: no-op for {share} (the ALM's input equals that of one copy)"
    if facts["rejected"]:
        yield f"- unreadable clips, left out: {facts['rejected']}"
    if facts["left_out"]:
        yield f"- clips in no split, left out: {facts['left_out']}"
    if facts["choosing_speakers"] < FEWEST_TO_CHOOSE:
        yield f"- choices and temperatures rest on {_speakers(facts['choosing_speakers'])}: others may differ"
    if facts["no_interval"]:
        yield f"- no intervals: {facts['no_interval']}"
    elif facts["few_speakers"]:
        yield f"- intervals are rough: only {_speakers(facts['test_speakers'])} in the test part"


def _speakers(number: int) -> str:
    return "1 speaker" if number == 1 else f"{number or 'unnamed'} speakers"


def _chosen(chosen: Mapping[str, Any], templates: list[str]) -> str:
    parts = []
    for name, value in chosen.items():
        if name == "prompt":
            value = f'"{templates[value]}"' if value < len(templates) else value
        parts.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def _explained(result: Mapping[str, Any]) -> Iterator[str]:
    yield "- UA (balanced accuracy) is the mean recall over emotions, WA (accuracy) the share of correct"
    yield "  clips; macro-F1 as in scikit-learn; ECE (calibration error) over 15 bins."
    yield f"- Intervals: {result['config']['resamples']:,} bootstraps over speakers, expanded percentiles;"
    yield "  a dash stands for one that fewer than five speakers, or chance, do not have."
    by = {"nll": "the likelihood after calibration", "ua": "UA, ties by likelihood"}
    chosen_by = by[result["config"]["objective"]]
    yield f"- Choices are made on dev speakers by {chosen_by}; all metrics are of test speakers,"
    yield "  with temperatures fitted on dev speakers (ZS-Fuse as given: with those given)."
    yield "- For a model trained on other speakers of a corpus, results are held-out speakers, not zero-shot."
