"""The model families, and how a user names a model.

NAME is one of these; the first that matches counts:

    package.module:Class              a third party's class, with a dot in the module's name (see `plugins`)
    package.module:Class:CHECKPOINT   the same with a checkpoint
    FAMILY:CHECKPOINT                 a family of MODELS
    CHECKPOINT                        of the family that its config.json names, else of the kind's usual one

CHECKPOINT is a folder, a file of weights, an s3:// URI, a hub id, or "untrained". A folder whose name looks
like one of the other forms is named ./FOLDER.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.about import About, Kind
from zsfuse_ray.models.checkpoints.find import SHIPPED, WEIGHTS, local_folder, resolve

if TYPE_CHECKING:
    import torch

    from zsfuse_ray.models.alm import AudioLanguageModel
    from zsfuse_ray.models.specialist import Specialist


@dataclass(frozen=True)
class Family:
    """A family of models. place: "module:Class" in families/, imported when a model of it is loaded.

    Its module brings torch and transformers: 700 MB, which a driver that only names models does without.
    """

    kind: Kind
    place: str

    @property
    def model_class(self) -> Any:
        """The class whose objects are the family's models."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"zsfuse_ray.models.families.{module}"), name)

    @property
    def about(self) -> About:
        """The family in a line."""
        return self.model_class.about


MODELS = {
    "clap": Family("alm", "clap:Clap"),
    "dual": Family("alm", "dual:Dual"),
    "laion": Family("alm", "laion:Laion"),
    "laion-package": Family("alm", "laion_package:LaionPackage"),
    "msclap": Family("alm", "msclap:MsClap"),
    "paraclap": Family("alm", "paraclap:Paraclap"),
    "paraspeechclap": Family("alm", "paraspeechclap:ParaSpeechClap"),
    "classifier": Family("specialist", "classifier:Classifier"),
    "odyssey": Family("specialist", "odyssey:Odyssey"),
    "voxprofile": Family("specialist", "voxprofile:VoxProfile"),
}
_DEFAULT_FAMILY: dict[Kind, str] = {"alm": "clap", "specialist": "classifier"}

UNTRAINED = "untrained"  # the checkpoint whose random weights are made on the spot, for tests and dry runs
_WITH_UNTRAINED = ("clap", "dual", "classifier")


_CLASS = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)+:[^\W\d]\w*)(?::(.*))?", re.DOTALL)


@dataclass(frozen=True)
class ModelSpec:
    """Which model: a family of MODELS, or a class "package.module:Class", and a checkpoint of it.

    checkpoint: folder, file, s3:// URI, hub id or "untrained"; "" for a class that is named without one.
    """

    family: str
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.family}:{self.checkpoint}" if self.checkpoint else self.family


def split_name(name: str) -> tuple[str, str]:
    """Return the family, or class, in a model's name ("" where it has none), and the checkpoint likewise."""
    if of_class := _CLASS.fullmatch(name):
        return of_class[1], of_class[2] or ""
    family, colon, checkpoint = name.partition(":")
    is_drive = len(family) == 1 and checkpoint.startswith(("/", "\\"))  # C:\models\x
    is_uri = checkpoint.startswith("//")  # s3://bucket/x
    if not colon or is_drive or is_uri or not re.fullmatch(r"[\w-]+", family):
        return "", name
    return family, checkpoint


def named_in_data(name: str, source: str, option: str) -> str:
    """Return a model's name as it is; InputError where a file of data names code: only a person may.

    source: what holds the name; option: how to name the model oneself. Both are for the message.
    """
    if _CLASS.fullmatch(name):
        raise InputError(
            f"{source} was made with {name}, code of a third party; if you trust it: {option} {name}"
        )
    return name


def parse_spec(text: str, kind: Kind) -> ModelSpec:
    """Return the model that a name means, see the top of this file.

    Raises InputError for an unknown family, for one of the other kind, and for a class that cannot be used.
    """
    family, checkpoint = split_name(text)
    family = family or _family_in(text, kind)
    if family not in MODELS and not _CLASS.fullmatch(family):
        raise InputError(f'unknown model family "{family}" in {text}{nearest(family, MODELS)}')
    if (of_kind := MODELS[family].kind if family in MODELS else _class_of(family).kind) != kind:
        usual = _DEFAULT_FAMILY[kind]
        raise InputError(f"{text} is of kind {of_kind}, expected {kind}, such as {usual}:CHECKPOINT")
    if not checkpoint.strip() and text != family:
        raise InputError(f'"{text}" names no checkpoint; expected {family}:FOLDER or {family}:HUB_ID')
    if checkpoint == UNTRAINED and family not in _WITH_UNTRAINED:
        known = ", ".join(f"{name}:{UNTRAINED}" for name in _WITH_UNTRAINED)
        raise InputError(f"{text}: there are no random weights of this family; there are {known}")
    return ModelSpec(family, checkpoint)


def revision_of(spec: ModelSpec) -> str | None:
    """Return the revision of the checkpoint; of a class without one its attribute `revision`, if it has that.

    None for random weights. Raises InputError where the checkpoint is not there or not reachable.
    """
    if spec.checkpoint == UNTRAINED:
        return None
    if not spec.checkpoint:
        return getattr(_class_of(spec.family), "revision", None)
    return resolve(spec.checkpoint).revision


def _class_of(family: str) -> Any:
    if family in MODELS:
        return MODELS[family].model_class
    from zsfuse_ray.models.plugins import import_class  # torch, as every model

    return import_class(family)


def _family_in(folder: str, kind: Kind) -> str:
    """Return the family of the kind that config.json in the folder names, else the kind's usual one."""
    try:
        config = json.loads((local_folder(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the model raises the error
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
    spec: ModelSpec, device: "str | torch.device" = "cpu", dtype: "torch.dtype | None" = None
) -> "AudioLanguageModel | Specialist":
    """Return the model on the device, computing in dtype, by default float32 (weights stay float32)."""
    import torch

    checkpoint = spec.checkpoint
    if checkpoint == UNTRAINED:
        # imported here for its price: every model class of transformers that it names
        from zsfuse_ray.models.untrained import untrained

        checkpoint = str(untrained(spec.family))
    model = _class_of(spec.family)(checkpoint, device, dtype or torch.float32)
    if spec.family not in MODELS:
        from zsfuse_ray.models.plugins import check_model

        check_model(model, str(spec))
    return model
