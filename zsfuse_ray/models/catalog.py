"""The model families, and how a user names a model: "family:checkpoint", or the checkpoint alone."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from getpass import getuser
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
import transformers

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models import untrained
from zsfuse_ray.models.clap import Clap
from zsfuse_ray.models.classifier import Classifier

Kind = Literal["alm", "specialist"]

MODELS: dict[str, type[Clap] | type[Classifier]] = {"clap": Clap, "classifier": Classifier}
_DEFAULT_FAMILY: dict[Kind, str] = {"alm": "clap", "specialist": "classifier"}

UNTRAINED = "untrained"  # the checkpoint whose random weights are made on the spot, for tests and dry runs
_MAKE_UNTRAINED: dict[str, Callable[[Path], None]] = {
    "clap": untrained.untrained_alm,
    "classifier": untrained.untrained_specialist,
}


@dataclass(frozen=True)
class ModelSpec:
    """Which model: a family of MODELS and a checkpoint of it (local folder, hub id, or "untrained")."""

    family: str
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.family}:{self.checkpoint}"


def parse_spec(text: str, kind: Kind) -> ModelSpec:
    """Return the model that "family:checkpoint" names, or a bare checkpoint of the kind's usual family.

    Raises InputError for an unknown family, and for one of the other kind.
    """
    family, colon, checkpoint = text.partition(":")
    is_drive = len(family) == 1 and checkpoint.startswith(("/", "\\"))  # C:\models\x
    if not colon or is_drive or not re.fullmatch(r"[\w-]+", family):
        family, checkpoint = _DEFAULT_FAMILY[kind], text
    if family not in MODELS:
        raise InputError(f'unknown model family "{family}" in {text}{nearest(family, MODELS)}')
    if MODELS[family].kind != kind:
        usual = _DEFAULT_FAMILY[kind]
        raise InputError(
            f"{text} is of kind {MODELS[family].kind}, expected {kind}, such as {usual}:CHECKPOINT"
        )
    if not checkpoint.strip():
        raise InputError(f'"{text}" names no checkpoint; expected {family}:FOLDER or {family}:HUB_ID')
    return ModelSpec(family, checkpoint)


def load(
    spec: ModelSpec, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Clap | Classifier:
    """Return the model on the device, computing in dtype (weights stay float32)."""
    checkpoint = str(_untrained(spec.family)) if spec.checkpoint == UNTRAINED else spec.checkpoint
    return MODELS[spec.family](checkpoint, device, dtype)


def _untrained(family: str) -> Path:
    """Return the folder of the family's untrained checkpoint, written on first use.

    Processes may race: each writes a folder of its own, and the first to rename it wins.
    """
    recipe = (
        Path(untrained.__file__).read_bytes() + f"{torch.__version__} {transformers.__version__}".encode()
    )
    cache = Path(tempfile.gettempdir()) / f"zsfuse_ray-{getuser()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    folder = cache / f"untrained-{family}-{sha256(recipe).hexdigest()[:12]}"
    if not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=cache))
        _MAKE_UNTRAINED[family](fresh)
        try:
            os.rename(fresh, folder)
        except OSError:
            shutil.rmtree(fresh)
            if not folder.is_dir():
                raise
    return folder
