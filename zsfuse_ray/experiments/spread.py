"""Mean and spread of a metric over folds and seeds, with intervals over speakers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsfuse_ray.experiments.intervals import FEWEST_SPEAKERS, interval
from zsfuse_ray.method import metrics

METRICS = ("ua", "wa", "macro_f1", "ece")


def spread(folds: Sequence[Sequence[Mapping[str, Any]]], n_labels: int, resamples: int) -> dict[str, Any]:
    """Return each system's metrics from records of folds, folds[seed][fold], see `fold.record_of`.

    A metric has its mean; `folds`, its standard deviation over folds (of their means over seeds); `seeds`,
    that over seeds (of their means over folds), None for a single one; and `by_fold`, the means over seeds.
    UA also has `low` and `high`, the 95 % interval of a bootstrap over the test speakers, None for too few.
    """
    systems = {}
    for name in folds[0][0]["systems"]:
        systems[name] = {}
        for metric in METRICS:
            values = np.array([[fold["systems"][name][metric] for fold in of_seed] for of_seed in folds])
            systems[name][metric] = {
                "mean": float(values.mean()),
                "folds": _deviation(values.mean(axis=0)),
                "seeds": _deviation(values.mean(axis=1)),
                "by_fold": values.mean(axis=0).tolist(),
            }
        systems[name]["ua"] |= _interval(name, folds, n_labels, resamples)
    return systems


def _deviation(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _interval(
    name: str, folds: Sequence[Sequence[Mapping[str, Any]]], n_labels: int, resamples: int
) -> dict[str, float | None]:
    speakers = [who for fold in folds[0] for who in fold["speakers"]]
    n_speakers = 0 if "" in speakers else len(set(speakers))
    if n_speakers < FEWEST_SPEAKERS:
        return {"low": None, "high": None}
    targets = np.concatenate([fold["targets"] for fold in folds[0]])
    group = np.concatenate([np.full(len(fold["targets"]), n) for n, fold in enumerate(folds[0])])
    drawn = [
        metrics.drawn(
            targets,
            np.concatenate([fold["predictions"][name] for fold in of_seed]),
            speakers,
            n_labels,
            "ua",
            groups=group,
            n=resamples,
        )
        for of_seed in folds
    ]
    found = interval(0.0, np.mean(drawn, axis=0), n_speakers)
    return {"low": found["low"], "high": found["high"]}
