"""Vectors of clips normalised by speaker, for ``--normalise``: what score does to those of an archive.

A clip is a whole recording and a single segment, so normalising by recording would change little.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.models.catalog import MODELS, ModelSpec

Normalise = Literal["auto", "none", "speaker"]
Readouts = dict[str, tuple[str, Readout]]  # of a model: the specialist whose vectors it reads, and its head


def normalised_keys(normalise: Normalise, specs: Mapping[str, ModelSpec]) -> list[str]:
    """Return which of these models are specialists whose vectors are normalised."""
    keys = [key for key in specs if kind_of(key) == "specialist"]
    if normalise == "auto":
        families = {key: MODELS.get(specs[key].family) for key in keys}
        return [key for key, family in families.items() if family is not None and family.normalises]
    return keys if normalise == "speaker" else []


def readouts(keys: Sequence[str], cards: Mapping[str, Any], heads: Mapping[str, Any]) -> Readouts:
    """Return how to read normalised vectors: by the specialists ``keys``, and by ALMs on the same trunk.

    cards: of all models; heads: those that loaded models have for vectors, by their keys. InputError for a
    specialist without one.
    """
    found: Readouts = {}
    for key in keys:
        if heads.get(key) is None:
            raise InputError(
                f"--normalise speaker: --specialist {cards[key]['model']} has no head for normalised "
                "vectors; use --normalise none"
            )
        found[key] = (key, Readout(heads[key], None))
    for key, head in heads.items():
        own = [trunk for trunk in keys if cards[trunk]["revision"] == cards[key]["revision"]]
        if kind_of(key) == "alm" and head is not None and own:
            found[key] = (own[0], Readout(None, head))
    return found


def by_speaker(vectors: NDArray[np.float32], speakers: Sequence[str]) -> NDArray[np.floating]:
    """Return vectors (n, V) normalised by their speakers (n,); a clip without one, "", is its own group."""
    groups = [f"speaker {who}" if who else f"clip {n}" for n, who in enumerate(speakers)]
    return normalised(vectors, groups)
