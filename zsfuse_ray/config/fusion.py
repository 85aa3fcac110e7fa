"""The folder of a trained fusion, for ``--fusion FOLDER``: what it was fitted on, and its weights.

fusion.json holds the options that its inputs depend on, and the identities of its models;
fusion/classifier.safetensors holds the classifier. ``zsfuse train --task fusion`` writes both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import safetensors.numpy
from pyarrow import fs as pafs
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from safetensors import SafetensorError

from zsfuse_ray.errors import InputError, nearest, redact
from zsfuse_ray.method.concat import Concat, Scores
from zsfuse_ray.method.fusion import RULES
from zsfuse_ray.method.logistic import Classifier
from zsfuse_ray.stores import retried, table_filesystem

RECORD = "fusion.json"
WEIGHTS = "fusion/classifier.safetensors"  # below, as it is no part of a specialist in the same folder
HERE = "."  # checkpoint of a specialist that is in the same folder
MOST_BYTES = 256 << 20  # of a file; the classifier of a large model has some kilobytes
# Options that the inputs of a fusion depend on; with --fusion FOLDER their values are those of the folder.
FITTED = ("labels", "templates", "words", "audio_repeats", "text_repeats", "separator", "ensemble")


@checked_dataclass(frozen=True, kw_only=True)
class Prompted:
    """The options that a fusion was fitted with."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    words: int
    audio_repeats: tuple[int, ...]
    text_repeats: tuple[int, ...]
    separator: str
    ensemble: Literal["embedding", "logit", "probability"]
    normalise: Literal["none", "recording", "speaker"]  # of which only whether they are is fixed


@checked_dataclass(frozen=True, kw_only=True)
class ModelOf:
    """A model that a fusion was fitted with: its name for --alm or --specialist, and its identity."""

    name: str
    identity: str


@dataclass(frozen=True, eq=False)
class TrainedFusion:
    """A fusion in a folder. models: by kind, "alm" and "specialist"; revision: a hash of its files."""

    uri: str
    options: Prompted
    models: dict[str, ModelOf]
    concat: Concat
    licence: str | None
    revision: str

    @property
    def recorded(self) -> dict[str, Any]:
        """What run.json records of it."""
        return {"folder": self.uri, "revision": self.revision, "licence": self.licence}

    def implied(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the fusion; its models unless they, or a table with them, are among those given.

        InputError for a model that is code.
        """
        values = {name: getattr(self.options, name) for name in FITTED}
        values["fused_temperature"] = 1.0  # it has its own; the preset's is that of its pool
        if self.options.normalise == "none":
            values["normalise"] = "none"
        for kind, one in self.models.items():
            if kind in given or given.get("embeddings") is not None:
                continue
            if "." in one.name.partition(":")[0]:
                raise InputError(
                    f"--fusion {self.uri} was trained with {one.name}, third-party code; if you trust it, "
                    f"pass --{kind} {one.name}"
                )
            values[kind] = one.name
        return values

    def check(self, options: Any, identities: Mapping[str, str]) -> None:
        """InputError if labels, prompts or models differ from those that it was fitted with.

        options: the job's configuration; identities: of its models, by kind.
        """
        for name in FITTED:
            fitted = getattr(self.options, name)
            if (value := getattr(options, name)) != fitted:
                text = name.replace("_", "-")
                raise InputError(
                    f"--fusion {self.uri} was trained with --{text} {_shown(fitted)}, not {_shown(value)}: "
                    f"leave --{text} out, or train another fusion"
                )
        then, now = self.options.normalise, options.normalise
        if (then == "none") != (now == "none"):
            raise InputError(
                f"--fusion {self.uri} was trained with --normalise {then}, not {now}: use the same"
            )
        for kind, one in self.models.items():
            if (identity := identities.get(kind, "none")) != one.identity:
                raise InputError(
                    f"--fusion {self.uri} was trained with --{kind} {one.name} ({one.identity}), not "
                    f"{identity}: leave --{kind} out, or train another fusion"
                )


def packed(
    concat: Concat, options: Prompted, models: Mapping[str, ModelOf], about: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the contents of a fusion's files, by name. about: licence and what it was fitted on."""
    record = {
        "rule": "concat",
        "options": TypeAdapter(Prompted).dump_python(options, mode="json"),
        "models": {kind: {"name": one.name, "identity": one.identity} for kind, one in models.items()},
        "scores": concat.scores,
        "per_prompt": concat.per_prompt,
        **about,
    }
    own = concat.classifier
    values = {"coef": own.coef, "intercept": own.intercept, "temperature": np.array([own.temperature])}
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in values.items()}
    return {
        RECORD: json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False).encode(),
        WEIGHTS: safetensors.numpy.save(
            {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        ),
    }


def read_fusion(uri: str) -> TrainedFusion:
    """Read a fusion; InputError if there is none in this folder, or for files that do not fit together."""
    record, weights = (_content(uri, name) for name in (RECORD, WEIGHTS))
    shown = redact(uri)
    try:
        values = json.loads(record)
        options = TypeAdapter(Prompted).validate_python(values["options"])
        models = TypeAdapter(dict[str, ModelOf]).validate_python(values["models"])
        scores: Scores = TypeAdapter(Scores).validate_python(values["scores"])
        arrays = safetensors.numpy.load(weights)
        classifier = Classifier(
            arrays["coef"].astype(np.float64),
            arrays["intercept"].astype(np.float64),
            temperature=float(arrays["temperature"][0]),
        )
        concat = Concat(classifier, scores, bool(values["per_prompt"]))
    except (ValueError, KeyError, TypeError, IndexError, ValidationError, SafetensorError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"--fusion {shown} holds no fusion of zsfuse train --task fusion: {line}") from None
    n = len(options.labels)
    finite = all(np.isfinite(part).all() for part in (classifier.coef, classifier.intercept))
    fits = classifier.coef.ndim == 2 and len(classifier.coef) == n and classifier.intercept.shape == (n,)
    if not (finite and fits and 0 < classifier.temperature < np.inf and set(models) == {"alm", "specialist"}):
        raise InputError(f"--fusion {shown}: its weights are damaged or of another label set; train it again")
    for kind, one in models.items():
        family, _, checkpoint = one.name.partition(":")
        if checkpoint == HERE:
            models[kind] = ModelOf(name=f"{family}:{uri}", identity=one.identity)
    licence = values.get("licence")
    revision = sha256(record + weights).hexdigest()[:16]
    return TrainedFusion(shown, options, models, concat, licence and str(licence), revision)


def _content(uri: str, name: str) -> bytes:
    try:
        fs, root = table_filesystem(uri)
        path = f"{root.rstrip('/')}/{name}"
        info = fs.get_file_info(path)
        if info.type != pafs.FileType.File:
            known = ", ".join(RULES)
            raise InputError(
                f"--fusion {redact(uri)} is neither a rule ({known}) nor a folder with {name}"
                f"{nearest(uri, RULES)}; zsfuse train --task fusion writes one"
            )
        if info.size > MOST_BYTES:
            raise InputError(f"--fusion {redact(uri)}: {name} has {info.size:,} bytes, too many for a fusion")

        def read() -> bytes:
            with fs.open_input_stream(path) as file:
                return file.read(MOST_BYTES)

        return retried(read, fs)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"--fusion {redact(uri)}: {redact(' '.join(str(error).split()))[:200]}") from None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        joint = "|" if any("," in str(one) or "{}" in str(one) for one in value) else ","
        return joint.join(map(str, value))
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)
