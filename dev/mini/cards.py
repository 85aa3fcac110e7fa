"""Cards and figures.json of the shipped models, from their evaluation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import yaml

from zsfuse_ray.corpora.registry import licences
from zsfuse_ray.reporting.cells import percent
from zsfuse_ray.training.card import data_table, licence_line

pc: Any = pyarrow.compute

SYSTEMS = ("chance", "svm", "specialist", "alm_ensemble", "zs_fuse_given")
_FOR = (
    "**For research and non-commercial use.** The training corpora are licensed for that, and so are these "
    "weights. The corpora are acted: a few sentences, read in studios."
)
_PART = "\n# Held-out speakers\n"


def measured(result: Mapping[str, Any], choice: Mapping[str, float]) -> dict[str, Any]:
    """Return the content of ``figures.json`` for an evaluation's result.

    ua: by corpus and system, on test speakers. choice: the options of ``score --preset mini``.
    """
    corpora = {
        corpus: {name: table["systems"][name]["ua"]["value"] for name in SYSTEMS if name in table["systems"]}
        for corpus, table in result["corpora"].items()
    }
    models = {kind: card["revision"] for kind, card in result["models"].items()}
    return {
        "what": "UA on speakers in neither training nor dev",
        "models": models,
        "ua": corpora,
        "preset": dict(choice),
    }


def new_card(clips: pa.Table, command: str, init: str) -> str:
    """Return the card of a model whose heads are trained on clips (CLIPS), all but those of split test."""
    corpora = sorted(set(clips["corpus"].to_pylist()))
    terms = licences()
    front = {
        "license": "other",
        "license_name": "; ".join(sorted({terms[name] for name in corpora})),
        "datasets": corpora,
        "base_model": Path(init).name if Path(init).is_dir() else init,
        "library_name": "transformers",
        "tags": ["speech", "emotion", "zsfuse_ray"],
    }
    trained = clips.filter(pc.not_equal(clips["split"], "test"))
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        licence_line(clips, terms),
        "",
        "The trunk is the first layers of the encoder of Whisper base, frozen (MIT licence,",
        "Copyright (c) 2022 OpenAI). The heads are trained on its vectors: a linear classifier, and a",
        "projection into the space of a small text encoder.",
        "",
        "# Training data",
        *data_table(trained),
        "",
        "# Training",
        "```",
        command,
        "```",
    ]
    return "\n".join(lines) + "\n"


def with_figures(card: str, result: Mapping[str, Any]) -> str:
    """Return a training's card with the model's purpose and measured UA added."""
    front, body = re.match(r"(---\n.*?\n---\n)(.*)", card, re.S).groups()  # type: ignore[union-attr]
    body = body.removeprefix(_FOR).lstrip("\n").partition(_PART)[0].rstrip("\n")
    names = list(result["corpora"])
    lines = [
        "UA in % (95 % interval over speakers) of both models' evaluation; the mean is over corpora. A dash:",
        "a bootstrap over fewer than five speakers cannot give an interval.",
        "`python -m dev.mini` rebuilds everything but the trunk.",
        "",
        f"| | {' | '.join(names)} | mean |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for system in SYSTEMS:
        tables = [result["corpora"][name]["systems"] for name in names]
        cells = [percent(table[system]["ua"], 0) for table in tables]
        cells.append(percent(result["mean"]["ua"][system], 0))
        lines.append(f"| {tables[0][system]['name']} | {' | '.join(cells)} |")
    return f"{front}{_FOR}\n\n{body}\n{_PART}" + "\n".join(lines) + "\n"
