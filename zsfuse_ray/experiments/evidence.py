"""The data of an evaluation or a tuning: labelled clips and the models' outputs for them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.method.calibration import fit
from zsfuse_ray.method.fusion import specialist_on_labels


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
    """A specialist's logits (n, S) over its own labels, their mapping (S, C), and its temperature."""

    logits: NDArray[np.floating]
    mapping: NDArray[np.bool_]
    temperature: float = 1.0

    @cached_property
    def posterior(self) -> NDArray[np.float64]:
        """The posteriors (n, C) on the label set."""
        return specialist_on_labels(self.logits, self.mapping, self.temperature)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """The labels it covers, (C,)."""
        return np.logical_or.reduce(self.mapping, axis=0)

    def at(self, temperature: float) -> "Specialist":
        """The same specialist with another temperature."""
        return self if temperature == self.temperature else replace(self, temperature=temperature)

    def fitted(self, targets: NDArray[np.int64], rows: NDArray[np.intp]) -> "Specialist":
        """The same specialist with the temperature fitted on those of the rows whose targets it covers."""
        rows = rows[self.inside[targets[rows]]]
        logits = self.logits[rows]
        return self.at(fit(lambda t: specialist_on_labels(logits, self.mapping, t), targets[rows]))


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

    def at(self, temperature: float) -> "Evidence":
        """The same evidence with another temperature of all specialists."""
        return replace(self, specialists={key: one.at(temperature) for key, one in self.specialists.items()})

    def calibrated(self, rows: NDArray[np.intp]) -> "Evidence":
        """The same evidence with each specialist's temperature fitted on these rows."""
        fits = {key: one.fitted(self.targets, rows) for key, one in self.specialists.items()}
        return replace(self, specialists=fits)
