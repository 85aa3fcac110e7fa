"""In-sample curves of a tuning: over copies, over the fusion weight, and per template."""

from typing import Any

import numpy as np
import pyarrow as pa

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.intervals import Predictions
from zsfuse_ray.experiments.settings import alm_posterior
from zsfuse_ray.experiments.tune.choice import Candidates
from zsfuse_ray.experiments.tune.configurations import Configuration
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.search import members

WEIGHTS = np.linspace(0, 1, 51)
MOST_RESAMPLES = 500  # per point of the curve


def weight_curve(evidence: Evidence, config: TuneConfig, chosen: Configuration) -> dict[str, Any]:
    """UA over the weight for each fusion rule, with intervals; other options as chosen."""
    if chosen.setting.specialist is None:
        return {}
    specialist = evidence.specialists[chosen.setting.specialist]
    prompts = chosen.templates(evidence.n_prompts)
    alm = alm_posterior(evidence, chosen.setting, np.arange(len(evidence.targets)), prompts)
    curve: dict[str, Any] = {"weights": WEIGHTS.tolist()}
    for rule in config.fusions:
        curve[rule] = []
        for w in WEIGHTS:
            fused = fuse(specialist.posterior, alm, float(w), rule, specialist.inside)
            point = Predictions(fused, evidence.targets, evidence.speakers, evidence.folds)
            curve[rule].append(point.interval("ua", min(config.resamples, MOST_RESAMPLES)))
    return curve


def amplification_table(candidates: Candidates) -> dict[str, Any]:
    """Best score over copies of audio (a) and text (b): of the ALM alone, and fused."""
    a = sorted({setting.a for setting in candidates.settings})
    b = sorted({setting.text.b for setting in candidates.settings})
    table: dict[str, Any] = {"a": a, "b": b}
    score = candidates.score[:, -1]
    for name, of_block in {"alm": score[:, :, -1].max(axis=1), "fused": score.max(axis=(1, 2))}.items():
        best = np.full((len(a), len(b)), -np.inf)
        for setting, value in zip(candidates.settings, of_block, strict=True):
            place = a.index(setting.a), b.index(setting.text.b)
            best[place] = max(best[place], value)
        table[name] = best.tolist()
    return table


def contributions(subsets: pa.Table, templates: tuple[str, ...]) -> list[dict[str, Any]]:
    """Per template: mean score of the tried subsets with it minus that of the subsets without it."""
    has = members(subsets["subset"].to_numpy(), len(templates))
    rows = []
    for t, template in enumerate(templates):
        row: dict[str, Any] = {"template": template}
        for name, column in (("alm", "alm_score"), ("fused", "score")):
            scores = subsets[column].to_numpy()
            both = has[:, t].any() and not has[:, t].all()
            row[name] = float(scores[has[:, t]].mean() - scores[~has[:, t]].mean()) if both else None
        rows.append(row)
    return rows
