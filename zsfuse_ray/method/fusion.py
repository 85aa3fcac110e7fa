"""Late fusion of the specialist's posterior q with the ALM's posterior p: the rules and their application.

Each training-free rule is one record in RULES; options, search, evaluation and tuning read the names from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.products import row_products
from zsfuse_ray.method.zeroshot import softmax

Rule = str  # a name in RULES

# A specialist's mass on the label set below this is rounding noise that renormalising would amplify.
_NO_MASS = 1e-12


@dataclass(frozen=True)
class FusionRule:
    """A training-free pool of two posteriors.

    pool: (q, p, weight) -> the pooled values over the labels the specialist covers, up to a factor per clip.
    Labels are the last axis, the leading axes of q and p broadcast, and q is already scaled to the mass of p
    on these labels. At weight 0 the result is q, at weight 1 p.

    straight: what is linear in the weight for every label; `search` then counts the clips of all weights at
    once. "posterior": the pool itself, with the same mass as p; "logarithm": its logarithm, up to a term
    common to all labels. None: neither; the search then computes each weight.
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


def specialist_on_labels(
    logits: ArrayLike, mapping: NDArray[np.bool_], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return the specialist's posterior on the label set, (n, C), from logits (n, S) and a mapping (S, C).

    The softmax of logits / temperature is over the specialist's labels that are mapped; labels that it does
    not cover are 0. A row whose mapped labels have no mass in the softmax over all its labels carries no
    information on the label set and becomes uniform over the covered labels; one that is not finite stays so.
    """
    inside = mapping.any(axis=0)
    if not inside.any():
        raise InputError("the specialist covers none of the labels; choose another specialist or label set")
    logits = np.asarray(logits, dtype=np.float64)
    silent = softmax(logits)[:, mapping.any(axis=1)].sum(axis=1, keepdims=True) <= _NO_MASS
    # a softmax over all labels, renormalised, would underflow at a low temperature
    own = softmax(np.where(mapping.any(axis=1), logits, -np.inf) / temperature)
    mapped = row_products(own, mapping)
    return np.where(silent, inside / inside.sum(), mapped / mapped.sum(axis=1, keepdims=True))


def mass_outside(
    logits: ArrayLike, mapping: NDArray[np.bool_], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return the specialist's probability (n,) of its labels that are not mapped, which is dropped."""
    return softmax(np.asarray(logits, np.float64) / temperature)[:, ~mapping.any(axis=1)].sum(axis=1)


def fuse(
    q: ArrayLike,
    p: ArrayLike,
    weight: float,
    rule: Rule,
    inside: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the fused posterior (n, C) for the ALM's share `weight`, 0 to 1 (Kataria & Hu 2026).

    q: (n, C) from `specialist_on_labels`; p: (n, C); inside: (C,), labels the specialist covers. Other labels
    keep the ALM's posterior; fusion redistributes the ALM's mass on the covered labels. Weight 1 is exactly
    p; weight 0 is exactly q if the specialist covers every label. InputError for a rule that is not in RULES
    and for a weight outside 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"fusion weight must be between 0 and 1, not {weight}")
    q = np.asarray(q, dtype=np.float64)
    p = np.asarray(p, dtype=np.float64)
    return pool_inside(q, p, weight, find_rule(rule), inside).copy()


def pool_inside(
    q: NDArray, p: NDArray, weight: float, rule: FusionRule, inside: NDArray[np.bool_]
) -> NDArray:
    """Return the result of `fuse` for arrays with labels on the last axis, in their own precision.

    The leading axes of q broadcast to those of p. The result may be q or p itself, not a copy.
    """
    if weight == 1:
        return p
    if weight == 0 and inside.all():
        return np.broadcast_to(q, p.shape)
    covers_all = bool(inside.all())
    share = 1.0 if covers_all else np.where(inside, p, 0).sum(axis=-1, keepdims=True)
    q = q * share
    pooled = rule.pool(q, p, weight)
    if rule.straight != "posterior":  # such a pool already has the mass of p
        pooled = pooled if covers_all else np.where(inside, pooled, 0)
        total = pooled.sum(axis=-1, keepdims=True)
        if (empty := total <= 0).any():
            # the supports of q and p are disjoint: a geometric pool has no mass; fall back to the linear one
            pooled = np.where(empty, _linear(q, p, weight), pooled)
            total = np.where(empty, share, total)
        pooled = pooled * (share / np.where(total > 0, total, 1.0))
    return pooled if covers_all else np.where(inside, pooled, p)


def entropy(p: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy (n,) of posteriors (n, C), in nats."""
    p = np.asarray(p, dtype=np.float64)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)
