"""Late fusion of the specialist's posterior q with the ALM's posterior p: the rules and their application.

A training-free rule is one record in RULES. Options, search, evaluation and tuning take the rules' names from
there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.zeroshot import softmax

Rule = str  # a name in RULES

# Below this a specialist's mass on the label set is rounding noise, and renormalising would amplify it.
_NO_MASS = 1e-12


@dataclass(frozen=True)
class FusionRule:
    """A training-free pool of two posteriors.

    pool: (q, p, weight) -> the pooled values over the labels the specialist covers, up to a factor a clip.
    Labels are the last axis, the leading axes of q and p broadcast, and q has been scaled to the mass of p on
    these labels. At weight 0 it is q, at weight 1 p.

    straight: what is a straight line over the weight for every label, which lets `search` count the clips of
    all weights at once. "posterior": the pool itself, of the same mass as p; "logarithm": its logarithm, up
    to a term that all labels share. None: neither; the search then computes each weight.
    """

    name: str
    about: str  # one line for --help
    pool: Callable[[NDArray, NDArray, float], NDArray]
    straight: Literal["posterior", "logarithm"] | None = None


def _linear(q: NDArray, p: NDArray, weight: float) -> NDArray:
    return (1 - weight) * q + weight * p


def _loglinear(q: NDArray, p: NDArray, weight: float) -> NDArray:
    return q ** (1 - weight) * p**weight


RULES: dict[str, FusionRule] = {
    rule.name: rule
    for rule in (
        FusionRule("linear", "(1-w)·q + w·p", _linear, "posterior"),
        FusionRule("loglinear", "q^(1-w)·p^w, normalised", _loglinear, "logarithm"),
    )
}


def find_rule(name: str) -> FusionRule:
    """Return the rule of this name; InputError with the nearest names for any other."""
    if name not in RULES:
        raise InputError(f"no fusion rule {name}{nearest(name, RULES)}")
    return RULES[name]


def specialist_on_labels(q: ArrayLike, mapping: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the specialist's posterior (n, S) on the label set, (n, C), by a mapping (S, C).

    Unmapped mass is dropped and the rest renormalised; labels the specialist does not cover get 0. A row
    without mapped mass carries no information on the label set and becomes uniform over the covered labels.
    """
    inside = mapping.any(axis=0)
    if not inside.any():
        raise InputError("the specialist covers none of the labels; choose another specialist or label set")
    mapped = np.asarray(q, dtype=np.float64) @ mapping
    mass = mapped.sum(axis=1, keepdims=True)
    return np.where(mass > _NO_MASS, mapped / np.maximum(mass, _NO_MASS), inside / inside.sum())


def fuse(
    q: ArrayLike,
    p: ArrayLike,
    weight: float,
    rule: Rule,
    inside: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the fused posterior (n, C) for the ALM's share `weight`, 0 to 1 (Kataria & Hu 2026).

    q: (n, C) from `specialist_on_labels`; p: (n, C); inside: (C,), labels the specialist covers. Outside
    these the ALM alone decides; inside, fusion shares out what mass the ALM leaves there. Weight 1 is
    exactly p; weight 0 is exactly q where the specialist covers every label. InputError for a rule that is
    not in RULES and for a weight outside 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"fusion weight must be between 0 and 1, not {weight}")
    q = np.asarray(q, dtype=np.float64)
    p = np.asarray(p, dtype=np.float64)
    return pool_inside(q, p, weight, find_rule(rule), inside).copy()


def pool_inside(
    q: NDArray, p: NDArray, weight: float, rule: FusionRule, inside: NDArray[np.bool_]
) -> NDArray:
    """Return what `fuse` defines, for arrays with labels on the last axis, in their own precision.

    The leading axes of q broadcast to those of p. The result may be q or p itself.
    """
    if weight == 1:
        return p
    if weight == 0 and inside.all():
        return np.broadcast_to(q, p.shape)
    covers_all = bool(inside.all())
    share = 1.0 if covers_all else np.where(inside, p, 0).sum(axis=-1, keepdims=True)
    q = q * share
    pooled = rule.pool(q, p, weight)
    if rule.straight != "posterior":  # which has the mass of p already
        pooled = pooled if covers_all else np.where(inside, pooled, 0)
        total = pooled.sum(axis=-1, keepdims=True)
        if (empty := total <= 0).any():
            # without a common label a geometric pool has nothing to normalise; the linear one exists
            pooled = np.where(empty, _linear(q, p, weight), pooled)
            total = np.where(empty, share, total)
        pooled = pooled * (share / np.where(total > 0, total, 1.0))
    return pooled if covers_all else np.where(inside, pooled, p)


@dataclass(frozen=True, eq=False)
class Stacked:
    """Fusion by multinomial logistic regression on log posteriors: coef (C, 2C), intercept (C,).

    Posteriors are clipped at `floor` before the logarithm.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    floor: float = 1e-6

    def predict(self, q: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
        """Return the fused posterior (n, C) of q and p, both (n, C)."""
        return softmax(_log_posteriors(q, p, self.floor) @ self.coef.T + self.intercept)


def fit_stacked(q: ArrayLike, p: ArrayLike, targets: ArrayLike, n_labels: int, c: float = 1.0) -> Stacked:
    """Return stacked fusion fitted on labelled posteriors q and p (n, C) and targets (n,).

    c is the inverse strength of the L2 penalty. A label missing from the targets gets probability 0.
    InputError for targets with fewer than two labels.
    """
    floor = Stacked.floor
    present = np.unique(np.asarray(targets))
    if len(present) < 2:
        raise InputError(f"stacked fusion needs clips of at least two labels, got {len(present)}")
    model = LogisticRegression(C=c, max_iter=1000).fit(_log_posteriors(q, p, floor), targets)
    # For two labels scikit-learn keeps only the second one's log odds.
    binary = len(present) == 2
    coef = np.zeros((n_labels, 2 * n_labels))
    intercept = np.full(
        n_labels, -1e9
    )  # finite, as `softmax` takes scores; the probability is 0 all the same
    coef[present] = np.vstack([np.zeros_like(model.coef_), model.coef_]) if binary else model.coef_
    intercept[present] = [0, model.intercept_[0]] if binary else model.intercept_
    return Stacked(coef, intercept, floor)


def entropy(p: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy (n,) of posteriors (n, C), in nats."""
    return entr(np.asarray(p, dtype=np.float64)).sum(axis=-1)


def _log_posteriors(q: ArrayLike, p: ArrayLike, floor: float) -> NDArray[np.float64]:
    return np.log(np.clip(np.hstack([np.asarray(q), np.asarray(p)]), floor, None))
