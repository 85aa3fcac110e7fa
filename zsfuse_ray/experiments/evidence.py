"""The data of an evaluation or a tuning: labelled clips and the models' outputs for them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """How a template is filled: b copies joined by a separator, with this many words per label."""

    b: int = 1
    separator: str = " "
    words: int = 1


@dataclass(frozen=True, eq=False)
class Alm:
    """An ALM's embeddings, normalised.

    audio: (n, D) of the clips, by copies a; text: (P, C, D) of the prompts, by form.
    """

    audio: dict[int, NDArray[np.float32]]
    text: dict[Text, NDArray[np.float32]]
    scale: float


@dataclass(frozen=True, eq=False)
class Specialist:
    """A specialist's posteriors (n, C) on the label set; ``inside`` (C,): the labels it covers."""

    posterior: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Labelled clips of one label set, and the models' outputs, by the models' keys in tables.

    targets (n,) are indices into labels; speakers (n,) are empty where unknown. folds (n,) count from 0 and
    share no speaker; all 0 if the rounds do not use them. features (n, F): log-mel statistics, None
    without audio.
    """

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    folds: NDArray[np.int64]
    alms: dict[str, Alm]
    specialists: dict[str, Specialist]
    features: NDArray[np.float32] | None = None

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    @property
    def n_prompts(self) -> int:
        """P: number of prompts per label."""
        return len(next(iter(next(iter(self.alms.values())).text.values())))

    @property
    def alm(self) -> Alm | None:
        """The first ALM."""
        return next(iter(self.alms.values()), None)

    @property
    def specialist(self) -> Specialist | None:
        """The first specialist."""
        return next(iter(self.specialists.values()), None)
