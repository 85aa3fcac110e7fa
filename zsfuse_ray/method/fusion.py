"""Late fusion of the specialist's posterior q with the ALM's posterior p."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.zeroshot import softmax

Rule = Literal["linear", "loglinear"]

# Below this a specialist's mass on the label set is rounding noise, and renormalising would amplify it.
_NO_MASS = 1e-12


def specialist_on_labels(q: ArrayLike, mapping: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the specialist's posterior (n, S) on the label set, (n, C), by a mapping (S, C).

    Unmapped mass is dropped and the rest renormalised; labels the specialist does not know get 0. A row
    without mapped mass says nothing about the label set and becomes uniform over the known labels.
    """
    inside = mapping.any(axis=0)
    if not inside.any():
        raise InputError("the specialist knows none of the labels; choose another specialist or label set")
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

    q: (n, C) from `specialist_on_labels`; p: (n, C); inside: (C,), labels the specialist knows. Outside
    these the ALM alone decides; inside, fusion shares out what mass the ALM leaves there. Weight 1 is
    exactly p; weight 0 is exactly q where the specialist knows every label.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"fusion weight must be between 0 and 1, not {weight}")
    q = np.asarray(q, dtype=np.float64)
    p = np.asarray(p, dtype=np.float64)
    if weight == 1:
        return p.copy()
    if weight == 0 and inside.all():
        return q.copy()
    share = np.where(inside, p, 0).sum(axis=1, keepdims=True)
    linear = (1 - weight) * q * share + weight * p
    if rule == "linear":
        return np.where(inside, linear, p)
    pooled = np.where(inside, q ** (1 - weight) * p**weight, 0)
    total = pooled.sum(axis=1, keepdims=True)
    # q and p without a common label leave a geometric pool nothing to normalise; the linear one exists.
    pooled = np.where(total > 0, pooled / np.where(total > 0, total, 1) * share, linear)
    return np.where(inside, pooled, p)


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

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, fit for YAML and JSON."""
        return {"coef": self.coef.tolist(), "intercept": self.intercept.tolist(), "floor": self.floor}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Stacked":
        """Return the model that `to_dict` described; InputError where it does not describe one."""
        try:
            coef = np.array(values["coef"], dtype=np.float64)
            intercept = np.array(values["intercept"], dtype=np.float64)
            floor = float(values["floor"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"stacked fusion needs numbers coef, intercept and floor: {error!r}") from error
        n_labels = intercept.size
        if n_labels < 2 or intercept.shape != (n_labels,) or coef.shape != (n_labels, 2 * n_labels):
            raise InputError(
                f"stacked fusion needs coef (C, 2C) and intercept (C,), not {coef.shape}, {intercept.shape}"
            )
        if not (np.isfinite(coef).all() and np.isfinite(intercept).all() and 0 < floor < 1):
            raise InputError("stacked fusion needs finite coefficients and a floor between 0 and 1")
        return cls(coef, intercept, floor)


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
    intercept = np.full(n_labels, -1e9)  # finite, since JSON has no infinity; its softmax is 0 all the same
    coef[present] = np.vstack([np.zeros_like(model.coef_), model.coef_]) if binary else model.coef_
    intercept[present] = [0, model.intercept_[0]] if binary else model.intercept_
    return Stacked(coef, intercept, floor)


def entropy(p: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy (n,) of posteriors (n, C), in nats."""
    return entr(np.asarray(p, dtype=np.float64)).sum(axis=-1)


def _log_posteriors(q: ArrayLike, p: ArrayLike, floor: float) -> NDArray[np.float64]:
    return np.log(np.clip(np.hstack([np.asarray(q), np.asarray(p)]), floor, None))
