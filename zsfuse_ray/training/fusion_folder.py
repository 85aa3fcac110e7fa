"""The folder of a trained fusion: who may write it, and its card."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zsfuse_ray.config.fusion import RECORD, WEIGHTS, ModelOf
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim

CARD = "README.md"
OURS = (RECORD, WEIGHTS, CARD)


def claim_fusion(uri: str, overwrite: bool) -> Output:
    """Open the folder for a fusion; InputError if it holds something else, or a fusion without overwrite."""
    out = Output.open(uri)
    claim(out, record=RECORD, what="fusion", ours=OURS, decides=None, overwrite=overwrite)
    return out


def fusion_card(
    about: Mapping[str, Any], models: Mapping[str, ModelOf], labels: Sequence[str], figures: str, command: str
) -> str:
    """The Markdown of README.md. figures: a sentence; command: without secrets."""
    on = about["fitted_on"]
    front = {
        "license": "other",
        "license_name": about["licence"],
        "tags": ["speech", "emotion", "zsfuse_ray"],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "A fusion for `--fusion` of zsfuse_ray: a linear layer on the layer-normalised vector of "
        f"{models['specialist'].name} and the layer-normalised zero-shot scores of {models['alm'].name}. Its "
        f"licence is that of both models ({about['licence']}); the terms of the clips it was fitted on may "
        "restrict it further.",
        "",
        f"- labels: {', '.join(labels)}",
        f"- fitted on: {on['segments']} segments of {on['groups']} {on['by']}s: "
        + ", ".join(f"{n} {label}" for label, n in on["counts"].items()),
        f"- inverse penalty: {about['strength']:g}; temperature: {about['temperature']:g}",
        "",
        f"{figures[:1].upper()}{figures[1:]}.",
        "",
        "```",
        command,
        "```",
        "Made with " + ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"
