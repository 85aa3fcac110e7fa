"""The model families, and how a user names a model: "family:checkpoint", or the checkpoint alone."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.load import SHIPPED, WEIGHTS, local_folder
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.families.dual import Dual
from zsfuse_ray.models.families.laion import Laion
from zsfuse_ray.models.families.laion_package import LaionPackage
from zsfuse_ray.models.families.msclap import MsClap
from zsfuse_ray.models.families.odyssey import Odyssey
from zsfuse_ray.models.families.paraclap import Paraclap
from zsfuse_ray.models.families.paraspeechclap import ParaSpeechClap
from zsfuse_ray.models.families.voxprofile import VoxProfile
from zsfuse_ray.models.specialist import Specialist

Kind = Literal["alm", "specialist"]

MODELS: dict[str, type[AudioLanguageModel] | type[Specialist]] = {
    "clap": Clap,
    "dual": Dual,
    "laion": Laion,
    "laion-package": LaionPackage,
    "msclap": MsClap,
    "paraclap": Paraclap,
    "paraspeechclap": ParaSpeechClap,
    "classifier": Classifier,
    "odyssey": Odyssey,
    "voxprofile": VoxProfile,
}
_DEFAULT_FAMILY: dict[Kind, str] = {"alm": "clap", "specialist": "classifier"}

UNTRAINED = "untrained"  # the checkpoint whose random weights are made on the spot, for tests and dry runs
_WITH_UNTRAINED = ("clap", "dual", "classifier")


@dataclass(frozen=True)
class ModelSpec:
    """Which model: a family of MODELS and a checkpoint of it (folder, s3:// URI, hub id, or "untrained")."""

    family: str
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.family}:{self.checkpoint}"


def parse_spec(text: str, kind: Kind) -> ModelSpec:
    """Return the model that "family:checkpoint" names, or a bare checkpoint.

    A bare folder is of the family that its config.json names, any other of the kind's usual family.

    Raises InputError for an unknown family, and for one of the other kind.
    """
    family, colon, checkpoint = text.partition(":")
    is_drive = len(family) == 1 and checkpoint.startswith(("/", "\\"))  # C:\models\x
    is_uri = checkpoint.startswith("//")  # s3://bucket/x
    if not colon or is_drive or is_uri or not re.fullmatch(r"[\w-]+", family):
        family, checkpoint = _family_of(text, kind), text
    if family not in MODELS:
        raise InputError(f'unknown model family "{family}" in {text}{nearest(family, MODELS)}')
    if MODELS[family].kind != kind:
        usual = _DEFAULT_FAMILY[kind]
        raise InputError(
            f"{text} is of kind {MODELS[family].kind}, expected {kind}, such as {usual}:CHECKPOINT"
        )
    if not checkpoint.strip():
        raise InputError(f'"{text}" names no checkpoint; expected {family}:FOLDER or {family}:HUB_ID')
    if checkpoint == UNTRAINED and family not in _WITH_UNTRAINED:
        known = ", ".join(f"{name}:{UNTRAINED}" for name in _WITH_UNTRAINED)
        raise InputError(f"{text}: there are no random weights of this family; there are {known}")
    return ModelSpec(family, checkpoint)


def _family_of(folder: str, kind: Kind) -> str:
    """Return the family of the kind that config.json in the folder names, else the kind's usual one."""
    try:
        config = json.loads((local_folder(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the model says what is wrong
        return _DEFAULT_FAMILY[kind]
    family = config.get("model_type") if isinstance(config, dict) else None
    return family if family in MODELS and MODELS[family].kind == kind else _DEFAULT_FAMILY[kind]


def quality(specs: Iterable[ModelSpec]) -> dict[str, Any] | None:
    """Return how good the shipped models are together, as ``dev/mini`` measured it; None for others.

    UA by corpus and system, on speakers whom they were not trained on.
    """
    if {spec.checkpoint for spec in specs} != set(SHIPPED):
        return None
    return json.loads((WEIGHTS / "figures.json").read_text(encoding="utf-8"))


def load(
    spec: ModelSpec, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> AudioLanguageModel | Specialist:
    """Return the model on the device, computing in dtype (weights stay float32)."""
    checkpoint = spec.checkpoint
    if checkpoint == UNTRAINED:
        # imported here for its price: every model class of transformers that it names
        from zsfuse_ray.models.untrained import untrained

        checkpoint = str(untrained(spec.family))
    family: Any = MODELS[spec.family]  # a protocol says nothing of its classes' own __init__
    return family(checkpoint, device, dtype)
