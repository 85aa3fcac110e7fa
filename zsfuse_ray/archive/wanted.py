"""What a command requests: models with audio repeats, and a hash of everything that determines its tables."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from zsfuse_ray.archive.describe import is_model
from zsfuse_ray.archive.normalise import SPEAKER, Normalise
from zsfuse_ray.archive.passes import Encoded, Pass, ToEncode
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.archive.summaries import Repetition
from zsfuse_ray.archive.texts import Transcripts, version_of
from zsfuse_ray.config.fusion import TrainedFusion, read_fusion
from zsfuse_ray.config.label import LABELLING, LabellingOptions
from zsfuse_ray.config.models import EncoderOptions, is_fusion_folder
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import ENCODING, RunConfig, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import MODELS, ModelSpec, named_in_data, parse_spec, revision_of, split_name

T = TypeVar("T", bound=LabellingOptions)

PREPROCESSING = 1  # increment when decoding, segmentation or resampling change the models' input


def encoding_options(config: RunConfig) -> dict[str, Any]:
    """The options that determine the rows of encoded/, beside the plan and the models."""
    own = {name: recorded(config)[name] for name in ENCODING}
    return own | {"speakers": config.speakers is not None, "preprocessing": PREPROCESSING}


def requested(config: EncoderOptions, models: Mapping[str, Mapping[str, Any]]) -> dict[str, ToEncode]:
    """What a run requests, by the models' names in encoded/, which already contains `models`.

    Models with the same weights are the same model, wherever they are stored.
    """
    wanted: dict[str, ToEncode] = {}
    for name, text in config.models.items():
        kind = kind_of(name)
        spec = parse_spec(text, kind)
        revision_of(spec)  # fail early if the checkpoint does not exist
        own = [key for key in models if kind_of(key) == kind]
        key = next((key for key in own if key not in wanted and is_model(spec, models[key])), None)
        if key is None:
            number = len({*own, *(k for k in wanted if kind_of(k) == kind)}) + 1
            key = kind if number == 1 else f"{kind}{number}"
        wanted[key] = ToEncode(spec, config.audio_repeats if kind == "alm" else ())
    return wanted


def to_encode(
    one: Pass, models: Mapping[str, Mapping[str, Any]], specs: Mapping[str, ModelSpec]
) -> dict[str, ToEncode]:
    """What the actors of a pass compute. specs: models named by this run."""
    return {
        key: ToEncode(
            specs[key] if key in specs else _recorded_spec(key, models[key]["model"]),
            computed.audio_repeats,
            computed.known,
        )
        for key, computed in one.models.items()
    }


def _recorded_spec(key: str, model: str) -> ModelSpec:
    kind = kind_of(key)
    return parse_spec(named_in_data(model, "encoded/", f"--{kind}"), kind)


def with_normalise(config: T, specs: Mapping[str, ModelSpec], columns: Collection[str]) -> T:
    """Return the options with the value of ``--normalise auto``; specs: by kind; see `normalise_of`."""
    return replace(config, normalise=normalise_of(config.normalise, specs.get("specialist"), columns))


def normalise_of(wanted: Normalise, specialist: ModelSpec | None, columns: Collection[str]) -> Normalise:
    """Return how vectors are normalised, which "auto" leaves to the specialist and the archive.

    columns: those of the archive's manifest. InputError if vectors are to be normalised per speaker and the
    manifest names no speakers.
    """
    if wanted == "speaker" and SPEAKER not in columns:
        raise InputError(
            f"--normalise speaker needs a manifest with a column {SPEAKER}, or --speakers; without, use "
            "--normalise recording"
        )
    if wanted != "auto":
        return wanted
    family = MODELS.get(specialist.family) if specialist else None
    if family is None or not family.normalises:
        return "none"
    return "speaker" if SPEAKER in columns else "recording"


def identity(spec: ModelSpec) -> str:
    """A model's identity: its family and revision, independent of where the checkpoint is stored."""
    revision = revision_of(spec)
    return str(spec) if revision is None else f"{spec.family}:{revision}"


def recorded_identity(facts: Mapping[str, Any]) -> str:
    """The same, from a model's facts in encoded/."""
    model, revision = facts["model"], facts["revision"]
    return model if revision is None else f"{split_name(model)[0]}:{revision}"


def trained_fusion(config: LabellingOptions, models: Mapping[str, str]) -> TrainedFusion | None:
    """The fusion of ``--fusion FOLDER``, None for a rule. models: their identities, by kind.

    config: with the value of ``--normalise auto``. InputError for one fitted with other options or models.
    """
    if not is_fusion_folder(config.fusion):
        return None
    trained = read_fusion(config.fusion)
    trained.check(config, models)
    return trained


def with_fusion(models: Mapping[str, str], trained: TrainedFusion | None) -> dict[str, str]:
    """Identities of the models that label, by kind, with that of a trained fusion."""
    return dict(models) if trained is None else {**models, "fusion": trained.revision}


def score_digest(
    config: ScoreConfig,
    models: Mapping[str, str],
    increments: int,
    source: str = "",
    transcripts: Transcripts | None = None,
) -> str:
    """A hash of what determines the tables of score.

    models: their identities, by kind; increments: their number in the plan: with statistics per speaker or a
    prior, new recordings change the labels of all; source: the embedding table that is labelled, if any.
    """
    decides = {name: recorded(config)[name] for name in LABELLING}
    repeats = sorted(set(config.audio_repeats)) if "alm" in models else []
    across = config.normalise == "speaker" and config.speakers is None  # turns name those of a recording
    extent: list[Any] = [increments] if across or config.prior != "none" else []
    extent += [] if config.limit_hours is None else [f"first {config.limit_hours} h"]
    texts = [] if transcripts is None else [version_of(transcripts)]
    return _hash([decides, dict(models), repeats, source, *extent, *texts])


def embed_digest(wanted: Mapping[str, Iterable[int]], limit_hours: float | None = None) -> str:
    """A hash of what determines the tables of embed: the models with their audio repeats, and a limit."""
    decides: dict[str, Any] = {key: sorted(repeats) for key, repeats in wanted.items()}
    return _hash(decides if limit_hours is None else [decides, limit_hours])


def repeats_of_table(wanted: Mapping[str, ToEncode], encoded: Encoded | None) -> dict[str, tuple[int, ...]]:
    """Audio repeats by model in embed's tables: those wanted and those already encoded."""
    repeats_of = {key: set(one.audio_repeats) for key, one in wanted.items()}
    for one in encoded.passes if encoded else ():
        for key, computed in one.models.items():
            repeats_of.setdefault(key, set()).update(computed.audio_repeats)
    return {key: tuple(sorted(repeats)) for key, repeats in repeats_of.items()}


def repetitions(
    config: EncoderOptions, repeats: Mapping[str, Iterable[int]], models: Mapping[str, Mapping[str, Any]]
) -> dict[str, Repetition]:
    """Parameters of the effect of repeated audio on each ALM, by the model's name."""
    return {
        key: Repetition(
            tuple(own),
            models[key]["sample_rate"],
            models[key]["window"],
            models[key]["fill"],
            config.crop == "seeded",
        )
        for key, own in repeats.items()
        if kind_of(key) == "alm"
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]
