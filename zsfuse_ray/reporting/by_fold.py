"""``protocol.json`` as a Markdown page: UA of every system with its spread, beside published figures."""

from collections.abc import Iterator, Mapping
from typing import Any

from zsfuse_ray.runs.folder import Output

PAGE = "protocol.md"


def write(out: Output, result: Mapping[str, Any]) -> str:
    """Write protocol.md; returns the summary to print."""
    out.write_bytes(PAGE, page(result).encode())
    lines = [line for corpus, table in result["corpora"].items() for line in _overview(corpus, table, result)]
    return "\n".join([*lines, f"page: {out.uri}/{PAGE}"])


def page(result: Mapping[str, Any]) -> str:
    """Return the whole page."""
    lines = ["# Evaluation by fold", ""]
    for kind, card in result["models"].items():
        lines.append(f"- {kind}: `{card['model']}`, licence {card['licence'] or 'not stated'}")
    lines += [f"- code: zsfuse_ray {result['versions']['zsfuse_ray']}, git {result['git'] or 'none'}", ""]
    for corpus, table in result["corpora"].items():
        lines += [*_overview(corpus, table, result), *_by_fold(table)]
    lines += ["## How to read it", "", *_explained(result)]
    return "\n".join(lines) + "\n"


def _overview(corpus: str, table: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    facts = table["protocol"]
    yield f"## {corpus}: {facts['splits']}"
    yield ""
    for name, systems in table["results"].items():
        first = "UA: mean ± over folds ± over seeds | 95 % over speakers"
        yield f"| {name or 'in %'} | {first} | WA | macro-F1 | ECE |"
        yield "|---|---|---|---|---|---|"
        for system, of in systems.items():
            mark = "".join(_MARKS[kind] for kind in table["in_sample"] if _uses(system, kind))
            means = " | ".join(f"{100 * of[metric]['mean']:.1f}" for metric in ("wa", "macro_f1", "ece"))
            title = f"{table['names'][system]}{mark}"
            yield f"| {title} | {mean_and_spread(of['ua'])} | {_between(of['ua'])} | {means} |"
        yield ""
    for kind, sentence in table["in_sample"].items():
        yield f"{_MARKS[kind]} in-sample: {sentence}."
        yield ""
    for one in table["published"]:
        yield f"published: {one['system']} {100 * one['ua']:.1f} % UA: {one['how']}."
        yield ""
    yield f"- trained in each fold: {_TRAINED[result['config']['refit'] or 'head']}; seeds: {result['seeds']}"
    yield f"- vectors normalised by speaker: {'yes' if result['config']['normalise'] == 'speaker' else 'no'}"
    yield f"- averaging: {facts['averaging']}"
    yield f"- speaker overlap of test with train and dev: {facts['speaker_overlap']}"
    yield f"- labels ({len(table['labels'])}): {', '.join(table['labels'])}; merged: {facts['merged']}"
    if table["clips"]["rejected"]:
        yield f"- unreadable clips, left out: {table['clips']['rejected']}"
    yield ""


_MARKS = {"alm": "†", "specialist": "‡"}
_TRAINED = {
    "head": "a linear head on the specialist's frozen vectors, and the trained fusions",
    "none": "the trained fusions; the specialist as it is",
}


def _uses(system: str, kind: str) -> bool:
    """Whether a system's result depends on the ALM, or on the specialist."""
    return system != "specialist" if kind == "alm" else not system.startswith("alm_")


def mean_and_spread(ua: Mapping[str, Any]) -> str:
    """A metric as "72.0 ± 5.1 ± 0.3" in %: its mean, spread over folds, and over seeds; a dash for none."""
    spreads = ["–" if ua[of] is None else f"{100 * ua[of]:.1f}" for of in ("folds", "seeds")]
    return " ± ".join([f"{100 * ua['mean']:.1f}", *spreads])


def _between(ua: Mapping[str, Any]) -> str:
    return "–" if ua["low"] is None else f"{100 * ua['low']:.1f}–{100 * ua['high']:.1f}"


def _by_fold(table: Mapping[str, Any]) -> Iterator[str]:
    if len(table["folds"]) == 1 or len(table["results"]) > 1:
        return
    (systems,) = table["results"].values()
    yield f"| UA in % by fold | {' | '.join(table['folds'])} |"
    yield "|---" * (len(table["folds"]) + 1) + "|"
    for system, of in systems.items():
        yield f"| {table['names'][system]} | {' | '.join(f'{100 * v:.1f}' for v in of['ua']['by_fold'])} |"
    yield ""


def _explained(result: Mapping[str, Any]) -> Iterator[str]:
    yield "- UA (balanced accuracy) is the mean recall over emotions. Mean ± standard deviation over folds"
    yield "  (of their means over seeds) ± that over seeds (of their means over folds)."
    yield f"- Intervals: {result['config']['resamples']:,} bootstraps over test speakers; none below five."
    yield "- Penalties, weights, temperatures, copies of audio and prompt are chosen on train or dev clips;"
    yield "  train clips have the posteriors of heads that were trained without their speaker."
    yield "- A seed draws the inner folds of these choices; a linear head itself has a single optimum."
    yield "- In-sample: the model's card names the corpus, so it may have seen the test clips."
