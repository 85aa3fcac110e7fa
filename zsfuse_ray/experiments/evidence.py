"""All that an evaluation or a tuning works on: labelled clips, and what the models gave for them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """How a template becomes text: b copies with a separator between, of so many words a label."""

    b: int = 1
    separator: str = " "
    words: int = 1


@dataclass(frozen=True, eq=False)
class Alm:
    """An ALM's embeddings, normalised.

    audio: by copies a, (n, D) of the clips; text: by form, (P, C, D) of the prompts.
    """

    audio: dict[int, NDArray[np.float32]]
    text: dict[Text, NDArray[np.float32]]
    scale: float


@dataclass(frozen=True, eq=False)
class Specialist:
    """A specialist's posteriors (n, C) on the label set, and which labels it covers, ``inside`` (C,)."""

    posterior: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Labelled clips of one label set, and the outputs of the models by their names in tables.

    targets (n,) are places in labels; speakers (n,) are empty where unnamed. folds (n,) count from 0 and
    share no speaker; all 0 where rounds are formed otherwise. features (n, F): log-mel statistics, None
    where there was no audio.
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
        """P: number of prompts a label."""
        return len(next(iter(next(iter(self.alms.values())).text.values())))

    @property
    def alm(self) -> Alm | None:
        """The first ALM."""
        return next(iter(self.alms.values()), None)

    @property
    def specialist(self) -> Specialist | None:
        """The first specialist."""
        return next(iter(self.specialists.values()), None)
