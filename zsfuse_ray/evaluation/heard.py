"""One corpus as the models hear it, and what is to be chosen or given: all that the systems work on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.embedding import LOG_MEL, LOGITS, embedding_column, matrix
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.method.fusion import Rule, specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.zeroshot import Ensemble, softmax


@dataclass(frozen=True)
class Amplified:
    """A choice of copies of audio and text, and the temperature that fits it."""

    a: int
    b: int
    temperature: float


@dataclass(frozen=True)
class Fusion:
    """A choice of everything ZS-Fuse has to choose; dev_ua is what it was chosen by, None if by the user."""

    amplified: Amplified
    weight: float
    rule: Rule
    dev_ua: float | None = None


@dataclass(frozen=True, eq=False)
class Heard:
    """One corpus as the models hear it.

    targets (n,) are places in labels. specialist: (n, C) posteriors on the label set, and which labels it
    knows, ``inside`` (C,). audio: (n, A, D), one embedding a clip and audio repeat; text: (B, P, C, D).
    """

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    features: NDArray[np.float32] | None
    specialist: NDArray[np.float64] | None
    inside: NDArray[np.bool_]
    audio: NDArray[np.float32] | None
    text: NDArray[np.float32] | None
    scale: float
    audio_repeats: tuple[int, ...]
    text_repeats: tuple[int, ...]
    ensemble: Ensemble
    given: Fusion | None = None  # one that is not chosen, to be measured beside those that are


def heard_corpus(
    part: pa.Table,
    labels: tuple[str, ...],
    config: EvaluateConfig,
    text: Any,
    scale: float,
    models: dict[str, Any],
) -> Heard:
    """One corpus of clips that were embedded (EMBEDDED rows) as the configuration wants it evaluated.

    text: its embedded prompts (B, P, C, D), or None without an ALM; models: what is known of each.
    """
    place = {label: i for i, label in enumerate(labels)}
    specialist, inside = None, np.zeros(len(labels), bool)
    if "specialist" in models:
        mapping = map_labels(models["specialist"]["labels"], labels)
        specialist = specialist_on_labels(softmax(matrix(part, LOGITS)), mapping)
        inside = np.any(mapping, axis=0)
    audio = None
    if text is not None:
        audio = np.stack([matrix(part, embedding_column(a)) for a in config.audio_repeats], axis=1)
    return Heard(
        labels=labels,
        targets=np.array([place[name] for name in part["emotion"].to_pylist()]),
        speakers=np.array([name or "" for name in part["speaker"].to_pylist()]),
        features=matrix(part, LOG_MEL) if LOG_MEL in part.column_names else None,
        specialist=specialist,
        inside=inside,
        audio=audio,
        text=text,
        scale=scale,
        audio_repeats=config.audio_repeats,
        text_repeats=config.text_repeats,
        ensemble=config.ensemble,
        given=_given(config),
    )


def _given(config: EvaluateConfig) -> Fusion | None:
    """The fusion that the user wants measured as score would apply it."""
    if config.weight is None:
        return None
    copies = Amplified(max(config.audio_repeats), max(config.text_repeats), config.temperature)
    return Fusion(copies, config.weight, config.fusion)
