"""The model families, and the syntax of model names.

A model name has one of these forms; the first match is used:

    package.module:Class              a third party's class, with a dot in the module's name (see `plugins`)
    package.module:Class:CHECKPOINT   the same with a checkpoint
    FAMILY:CHECKPOINT                 a family of MODELS
    CHECKPOINT                        of the family in its config.json, else of the kind's default family

CHECKPOINT is a folder, a file of weights, an s3:// URI, a hub id, or "untrained". Write ./FOLDER for a folder
whose name has one of the other forms.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.about import About, Kind
from zsfuse_ray.models.checkpoints.find import WEIGHTS, local_folder, resolve

if TYPE_CHECKING:
    import torch

    from zsfuse_ray.models.alm import AudioLanguageModel
    from zsfuse_ray.models.specialist import Specialist


@dataclass(frozen=True)
class Family:
    """A family of models. place: "module:Class" in families/, imported when a model of it is loaded.

    Lazy, since the module imports torch and transformers: 700 MB, not needed in a driver. normalises: whether
    the head of its specialists is trained on vectors normalised per recording or speaker, and on others.
    """

    kind: Kind
    place: str
    normalises: bool = False

    @property
    def model_class(self) -> Any:
        """The class of the family's models."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"zsfuse_ray.models.families.{module}"), name)

    @property
    def about(self) -> About:
        """One-line description of the family."""
        return self.model_class.about


MODELS = {
    "clap": Family("alm", "clap:Clap"),
    "clsp": Family("alm", "clsp:Clsp"),
    "dual": Family("alm", "dual:Dual"),
    "laion": Family("alm", "laion:Laion"),
    "laion-package": Family("alm", "laion_package:LaionPackage"),
    "msclap": Family("alm", "msclap:MsClap"),
    "paraclap": Family("alm", "paraclap:Paraclap"),
    "paraspeechclap": Family("alm", "paraspeechclap:ParaSpeechClap"),
    "pooled-alm": Family("alm", "pooled:PooledAlm"),
    "reclap": Family("alm", "reclap:Reclap"),
    "classifier": Family("specialist", "classifier:Classifier"),
    "pooled": Family("specialist", "pooled:Pooled", normalises=True),
    "odyssey": Family("specialist", "odyssey:Odyssey"),
    "voxprofile": Family("specialist", "voxprofile:VoxProfile"),
}
_DEFAULT_FAMILY: dict[Kind, str] = {"alm": "clap", "specialist": "classifier"}

# Valid factors of an ALM's cosines. Published ones are 1 to 120; with others every posterior would be
# uniform, or one label have all of it.
SCALES = (0.01, 1000.0)
LOWEST_RATE = 1000  # Hz, of a model's audio

UNTRAINED = "untrained"  # a checkpoint with random weights, generated on demand, for tests and dry runs
_WITH_UNTRAINED = ("clap", "clsp", "dual", "classifier")


_CLASS = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)+:[^\W\d]\w*)(?::(.*))?", re.DOTALL)


@dataclass(frozen=True)
class ModelSpec:
    """A model: a family of MODELS, or a class "package.module:Class", and its checkpoint.

    checkpoint: folder, file, s3:// URI, hub id or "untrained"; "" for a class without one.
    """

    family: str
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.family}:{self.checkpoint}" if self.checkpoint else self.family


def split_name(name: str) -> tuple[str, str]:
    """Return the family or class, and the checkpoint, in a model's name; "" for a missing part."""
    if of_class := _CLASS.fullmatch(name):
        return of_class[1], of_class[2] or ""
    family, colon, checkpoint = name.partition(":")
    is_drive = len(family) == 1 and checkpoint.startswith(("/", "\\"))  # C:\models\x
    is_uri = checkpoint.startswith("//")  # s3://bucket/x
    if not colon or is_drive or is_uri or not re.fullmatch(r"[\w-]+", family):
        return "", name
    return family, checkpoint


def named_in_data(name: str, source: str, option: str) -> str:
    """Return a model's name read from a data file; InputError if it names code, which only a user may do.

    source: the file with the name; option: the option for the model. Both are for the message.
    """
    if _CLASS.fullmatch(name):
        raise InputError(
            f"{source} was created with {name}, third-party code; if you trust it, pass {option} {name}"
        )
    return name


def parse_spec(text: str, kind: Kind) -> ModelSpec:
    """Return the model of a name, see the top of this file.

    Raises InputError for an unknown family, for one of the other kind, and for an unusable class.
    """
    family, checkpoint = split_name(text)
    family = family or _family_in(text, kind)
    if family not in MODELS and not _CLASS.fullmatch(family):
        raise InputError(f'unknown model family "{family}" in {text}{nearest(family, MODELS)}')
    if (of_kind := MODELS[family].kind if family in MODELS else _class_of(family).kind) != kind:
        usual = _DEFAULT_FAMILY[kind]
        raise InputError(f"{text} is of kind {of_kind}, expected {kind}, such as {usual}:CHECKPOINT")
    if not checkpoint.strip() and text != family:
        raise InputError(f'"{text}" has no checkpoint; expected {family}:FOLDER or {family}:HUB_ID')
    if checkpoint == UNTRAINED and family not in _WITH_UNTRAINED:
        known = ", ".join(f"{name}:{UNTRAINED}" for name in _WITH_UNTRAINED)
        raise InputError(f"{text}: no random weights for this family; use one of {known}")
    return ModelSpec(family, checkpoint)


def revision_of(spec: ModelSpec) -> str | None:
    """Return the revision of the checkpoint; for a class without one, its attribute `revision`, if any.

    None for random weights. Raises InputError if the checkpoint is missing or unreachable.
    """
    if spec.checkpoint == UNTRAINED:
        return None
    if not spec.checkpoint:
        return getattr(_class_of(spec.family), "revision", None)
    return resolve(spec.checkpoint).revision


def _class_of(family: str) -> Any:
    if family in MODELS:
        return MODELS[family].model_class
    from zsfuse_ray.models.plugins import import_class  # lazy import: imports torch

    return import_class(family)


def _family_in(folder: str, kind: Kind) -> str:
    """Return the family in the folder's config.json if it is of this kind, else the kind's default family."""
    try:
        config = json.loads((local_folder(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the model will raise a proper error
        return _DEFAULT_FAMILY[kind]
    named = config.get("model_type") if isinstance(config, dict) else None
    families = (name for name in (named, f"{named}-{kind}") if name in MODELS and MODELS[name].kind == kind)
    return next(families, _DEFAULT_FAMILY[kind])


def quality(specs: Iterable[ModelSpec]) -> dict[str, Any] | None:
    """Return the results of both models of the default together, measured by ``dev/mini``; None for others.

    UA by corpus and system, on speakers not used in training.
    """
    if {str(spec) for spec in specs} != {"pooled-alm:mini", "pooled:mini"}:
        return None
    return json.loads((WEIGHTS / "figures.json").read_text(encoding="utf-8"))


def load(
    spec: ModelSpec, device: "str | torch.device" = "cpu", dtype: "torch.dtype | None" = None
) -> "AudioLanguageModel | Specialist":
    """Return the model on the device, computing in dtype, by default float32 (weights are float32).

    Raises InputError for a checkpoint that does not fit, and for a scale or rate that no model can have.
    """
    import torch

    checkpoint = spec.checkpoint
    if checkpoint == UNTRAINED:
        # lazy import: slow, loads several model classes of transformers
        from zsfuse_ray.models.untrained import untrained

        checkpoint = str(untrained(spec.family))
    model = _class_of(spec.family)(checkpoint, device, dtype or torch.float32)
    if spec.family not in MODELS:
        from zsfuse_ray.models.plugins import check_model

        check_model(model, str(spec))
    _check_numbers(model, str(spec))
    return model


def _check_numbers(model: "AudioLanguageModel | Specialist", name: str) -> None:
    """Raise InputError for a number of a loaded model with which all its results would be wrong."""
    rate = model.sample_rate
    if not (isinstance(rate, int) and rate >= LOWEST_RATE):
        raise InputError(
            f"{name}: its sampling rate is {rate} Hz, expected a whole number of at least {LOWEST_RATE}; see "
            "sampling_rate in its preprocessor_config.json"
        )
    scale = float(getattr(model, "scale", 1.0))  # only an ALM has one
    if not SCALES[0] <= scale <= SCALES[1]:  # also of NaN
        raise InputError(
            f"{name}: its logit scale is {scale:g}, expected {SCALES[0]:g} to {SCALES[1]:g}; the checkpoint "
            "is damaged or its training diverged: use another one"
        )
