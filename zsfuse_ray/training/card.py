"""The model card (README.md) of a trained model: facts, data, command to reproduce it, metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from zsfuse_ray.errors import redact
from zsfuse_ray.training.data import HeldOut, listed

# Options that are paths: the command shows them as the user wrote them.
_PLACES = ("init", "text", "corpus", "train", "dev", "splits")


def card(
    about: Mapping[str, Any],
    table: pa.Table,
    history: Sequence[Mapping[str, float]],
    best: Mapping[str, float],
    command: str,
    options: Mapping[str, Any],
    versions: Mapping[str, str],
    licences: Mapping[str, str],
    held_out: HeldOut,
) -> str:
    """Return the card's Markdown. about: Task.card(); best: the saved epoch, as in ``history``; command: the
    command line of the training.

    licences: by the names of known corpora. held_out: the speakers moved to dev. The front matter's licence
    is "other" if one of these corpora is in the table, else that of the initial model.
    """
    corpora = sorted({str(name) for name in table["corpus"].to_pylist()})
    named = "; ".join(sorted({licences[name] for name in corpora if name in licences}))
    front = {
        "license": "other" if named or not about.get("start_licence") else about["start_licence"],
        **({"license_name": named} if named else {}),
        "datasets": corpora,
        "library_name": "transformers",
        "pipeline_tag": "audio-classification" if about["family"] == "classifier" else "feature-extraction",
        "tags": ["speech", "emotion", "zsfuse_ray"],
    }
    facts = [
        f"- {name.replace('_', ' ')}: {_show(value)}" for name, value in about.items() if value is not None
    ]
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        licence_line(table, licences),
        "",
        "# Model",
        *facts,
        "",
        "# Data",
        *data_table(table),
        "",
        *([f"Speakers held out of training for dev: {listed(held_out, most=None)}.", ""] if held_out else []),
        "# Training",
        "```",
        redact(command),
        "```",
        "Options: "
        + ", ".join(f"{name} {_show(value)}" for name, value in options.items() if name not in _PLACES)
        + ".",
        "",
        "Made with " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        "",
        "# Figures",
        _figures_line(best, len(history)),
        "",
        "| " + " | ".join(history[-1]) + " |",
        "|" + "---|" * len(history[-1]),
        *("| " + " | ".join(f"{value:.5g}" for value in row.values()) + " |" for row in history),
    ]
    return "\n".join(lines) + "\n"


def _figures_line(best: Mapping[str, float], epochs: int) -> str:
    shown = [f"{name} {value:.1%}" for name, value in best.items() if name.startswith("dev_")]
    if not shown:
        return (
            f"The last epoch, {int(best['epoch'])}, is saved here, unmeasured: there were no dev clips. "
            "Measure it with zsfuse evaluate on speakers it was not trained on."
        )
    return (
        f"Epoch {int(best['epoch'])} of {epochs} is saved here: {', '.join(shown)}. "
        "Optimistic, as the epoch was chosen by them: measure with zsfuse evaluate on other speakers."
    )


def licence_line(table: pa.Table, licences: Mapping[str, str]) -> str:
    """Return the first line of a card: the corpora and their terms."""
    corpora = sorted({str(name) for name in table["corpus"].to_pylist()})
    parts = [f"{name} ({licences.get(name, 'licence not stated')})" for name in corpora]
    return f"Trained on {', '.join(parts)}: the use of the weights is bound by these licences."


def data_table(table: pa.Table) -> list[str]:
    """Return the Markdown lines of a table of clips, speakers and labels by corpus and split."""
    rows = table.select(["corpus", "split", "speaker", "emotion"]).to_pylist()
    lines = ["| corpus | split | clips | speakers | labels |", "|---|---|---|---|---|"]
    for corpus, split in sorted({(str(r["corpus"]), str(r["split"])) for r in rows}):
        of = [r for r in rows if (str(r["corpus"]), str(r["split"])) == (corpus, split)]
        speakers = len({r["speaker"] for r in of if r["speaker"] is not None})
        labels = ", ".join(f"{n} {k}" for n, k in sorted(Counter(r["emotion"] for r in of).items()))
        lines.append(f"| {corpus} | {split} | {len(of)} | {speakers or 'not stated'} | {labels} |")
    return lines


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(str, value)) + ")"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
