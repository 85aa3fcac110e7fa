"""The temperatures of the configuration that a tuning writes, and how well calibrated it is with them."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.settings import alm_posterior, fitted
from zsfuse_ray.experiments.tune.configurations import Configuration
from zsfuse_ray.method.calibration import fit_tempered, left_out, tempered
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import ece, nll

SPECIALIST, ALM, FUSED = "specialist", "alm", "fused"
NAMES = {SPECIALIST: "specialist", ALM: "ALM", FUSED: "fused"}


def calibrate(evidence: Evidence, chosen: Configuration, refits: bool) -> tuple[float, dict[str, Any]]:
    """Return the temperature after fusion, 1 without a specialist, and the record "calibration".

    The temperature is fitted on all clips. The record has ECE and NLL, over all clips, of the specialist, the
    ALM and the fused posterior: before, with all temperatures 1, and after, where each speaker (each fold, if
    clips have none) has temperatures fitted on the others, see `left_out`. refits: whether that of
    the ALM is fitted like this as well, or was chosen by the search.
    """
    by_speaker = len(set(evidence.speakers)) > 1 and not (evidence.speakers == "").any()
    every = np.arange(len(evidence.targets))
    outside = {name: np.empty((len(every), len(evidence.labels))) for name in NAMES}
    for others, own in left_out(evidence.speakers if by_speaker else evidence.folds):
        of_others = evidence.calibrated(others)
        setting = fitted(evidence, others, chosen.setting) if refits else chosen.setting
        again = replace(chosen, setting=setting)
        temperature = _fused_temperature(of_others, again, others)
        for name, posteriors in _posteriors(of_others, again, own, temperature).items():
            outside[name][own] = posteriors
    plain = replace(chosen, setting=replace(chosen.setting, temperature=1.0))
    before = _posteriors(evidence.at(1.0), plain, every, 1.0)
    record = {
        name: {
            "name": NAMES[name],
            "before": _measured(posteriors, evidence.targets),
            "after": _measured(outside[name], evidence.targets),
        }
        for name, posteriors in before.items()
    }
    left = "speaker" if by_speaker else "fold"
    return _fused_temperature(evidence, chosen, every), {"left_out": left, "systems": record}


def _fused_temperature(evidence: Evidence, chosen: Configuration, rows: NDArray) -> float:
    if chosen.setting.specialist is None:
        return 1.0
    return fit_tempered(_posteriors(evidence, chosen, rows, 1.0)[FUSED], evidence.targets[rows])


def _posteriors(
    evidence: Evidence, chosen: Configuration, rows: NDArray, fused_temperature: float
) -> dict[str, NDArray[np.float64]]:
    """The posteriors (rows, C) of both models and fused; only the ALM's without a specialist."""
    alm = alm_posterior(evidence, chosen.setting, rows, chosen.templates(evidence.n_prompts))
    if chosen.setting.specialist is None:
        return {ALM: alm}
    specialist = evidence.specialists[chosen.setting.specialist]
    q = specialist.posterior[rows]
    fused = fuse(q, alm, chosen.weight, chosen.setting.fusion, specialist.inside)
    return {SPECIALIST: q, ALM: alm, FUSED: tempered(fused, fused_temperature)}


def _measured(posteriors: NDArray, targets: NDArray) -> dict[str, float]:
    return {"ece": ece(posteriors, targets), "nll": nll(posteriors, targets)}
