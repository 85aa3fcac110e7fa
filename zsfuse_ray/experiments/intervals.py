"""Metrics of predictions, each a record of its value and its interval over speakers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.method import metrics

Drawable = Literal["ua", "wa", "macro_f1", "ece"]
FEWEST_SPEAKERS = 5  # below this, there are no intervals
FEW_SPEAKERS = 10  # below this, they are rough


@dataclass(frozen=True, eq=False)
class Predictions:
    """Posteriors (m, C) of clips with targets and speakers (m,), empty where unknown.

    groups: (m,) numbers of a fold or a prompt; metrics are means over the groups.
    """

    posteriors: NDArray[np.float64]
    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    groups: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label of the highest posterior (m,)."""
        return self.posteriors.argmax(axis=1)

    @property
    def n_labels(self) -> int:
        """C."""
        return self.posteriors.shape[1]

    @property
    def n_speakers(self) -> int:
        """Number of speakers; 0 if any is unknown."""
        return 0 if (self.speakers == "").any() else len(set(self.speakers))

    def value(self, metric: str) -> float:
        """Return a metric, or "nll", averaged over the groups."""
        return float(np.mean([self._of_group(metric, self.groups == g) for g in np.unique(self.groups)]))

    def _of_group(self, metric: str, rows: NDArray[np.bool_]) -> float:
        if metric in ("ece", "nll"):
            return getattr(metrics, metric)(self.posteriors[rows], self.targets[rows])
        return getattr(metrics, metric)(self.targets[rows], self.labels[rows], self.n_labels)

    def draws(self, metric: Drawable, n: int, seed: int = 0) -> NDArray[np.float64] | None:
        """Return the metric on n resamples of the speakers; the same resamples for any posteriors.

        None for fewer than FEWEST_SPEAKERS speakers.
        """
        if self.n_speakers < FEWEST_SPEAKERS:
            return None
        given = self.posteriors if metric == "ece" else self.labels
        return metrics.drawn(
            self.targets,
            given,
            list(self.speakers),
            self.n_labels,
            metric,
            groups=self.groups,
            n=n,
            seed=seed,
        )

    def interval(self, metric: Drawable, n: int, seed: int = 0) -> dict[str, Any]:
        """Return the metric's record from n resamples."""
        return interval(self.value(metric), self.draws(metric, n, seed), self.n_speakers)


def why_none(n_speakers: int) -> str | None:
    """Return why there is no interval for so many speakers, 0 if any is unknown; None if there is one."""
    if n_speakers >= FEWEST_SPEAKERS:
        return None
    if not n_speakers:
        return "some clips have no speaker"
    # e.g. three speakers: only 10 distinct resamples
    return f"a bootstrap over fewer than five speakers (here {n_speakers}) cannot give a 95 % interval"


def interval(value: float, draws: NDArray | None, n_speakers: int) -> dict[str, Any]:
    """Return the record of a value: "value", and its 95 % interval "low" to "high", None without draws."""
    low, high = (None, None) if draws is None else metrics.interval(draws, n_speakers)
    return {"value": value, "low": low, "high": high}


def difference(a: Predictions, b: Predictions, resamples: int, seed: int = 0) -> dict[str, Any]:
    """Return the record of the paired difference of two UAs, on the same resampled speakers."""
    of_a, of_b = (each.draws("ua", resamples, seed) for each in (a, b))
    draws = None if of_a is None or of_b is None else of_a - of_b
    return interval(a.value("ua") - b.value("ua"), draws, a.n_speakers)
