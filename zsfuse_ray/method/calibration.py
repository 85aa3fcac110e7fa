"""Temperatures of posteriors: a single number that makes confidences match accuracy (Guo et al. 2017)."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import fminbound

from zsfuse_ray.method.metrics import nll

BOUNDS = (0.01, 100.0)
MOST_GROUPS = 20  # with more speakers, groups of speakers are left out: the estimate is as good, and faster


def tempered(posteriors: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return posteriors (n, C) to the power 1/temperature, normalised.

    Of a softmax this is the softmax of its logits / temperature. A linear pool of two calibrated posteriors
    is under-confident (Ranjan & Gneiting 2010), so a temperature below 1 is usual after fusion.
    """
    if temperature == 1:
        return posteriors
    with np.errstate(divide="ignore"):
        powers = np.exp((np.log(posteriors) - np.log(posteriors.max(axis=1, keepdims=True))) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def fit(at: Callable[[float], NDArray[np.float64]], targets: NDArray[np.integer]) -> float:
    """Return the temperature T that minimises the negative log-likelihood of the posteriors at(T), (n, C).

    targets: (n,). Rounded to four digits, so that a file holds the number that was used. 1 without clips.
    """
    if not len(targets):
        return 1.0

    def loss(log_t: float) -> float:
        return nll(at(float(np.exp(log_t))), targets)

    return float(f"{np.exp(fminbound(loss, *np.log(BOUNDS), xtol=1e-4)):.4g}")


def fit_tempered(posteriors: NDArray[np.float64], targets: NDArray[np.integer]) -> float:
    """Return the temperature of `tempered` fitted on posteriors (n, C) and targets (n,), see `fit`.

    Clips whose target has probability 0 are left out: no temperature changes that.
    """
    possible = posteriors[np.arange(len(targets)), targets] > 0
    posteriors = posteriors[possible]
    return fit(lambda t: tempered(posteriors, t), targets[possible])


def left_out(groups: ArrayLike) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the rows of the other groups and of its own, for each group (n,), such as each speaker.

    A temperature fitted on the former and applied to the latter gives an honest estimate. Nothing for a
    single group. More than MOST_GROUPS groups are joined to that many.
    """
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    place = place % MOST_GROUPS
    for one in range(min(len(names), MOST_GROUPS) if len(names) > 1 else 0):
        yield np.flatnonzero(place != one), np.flatnonzero(place == one)
