"""The search space of a tuning: settings, one block each, and configurations."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.experiments.evidence import Alm, Evidence
from zsfuse_ray.experiments.settings import Setting, fitted, fused_posterior
from zsfuse_ray.method.search import Block, Objective, members, prompt_gram, prompt_scores


@dataclass(frozen=True)
class Configuration:
    """All choices of a tuning; subset: the templates used, as a bit mask."""

    setting: Setting
    subset: int
    weight: float

    def templates(self, n_prompts: int) -> NDArray[np.intp]:
        """Indices of the templates used."""
        return np.flatnonzero(members(np.array([self.subset], np.uint64), n_prompts)[0])

    def record(self, templates: tuple[str, ...]) -> dict[str, Any]:
        """The choice as plain values."""
        chosen = [templates[t] for t in self.templates(len(templates))]
        how = {key: value for key, value in asdict(self.setting).items() if key != "text"}
        return how | asdict(self.setting.text) | {"templates": chosen, "weight": self.weight}

    def posterior(self, evidence: Evidence, rows: NDArray) -> NDArray[np.float64]:
        """The fused posteriors (rows, C)."""
        prompts = self.templates(evidence.n_prompts)
        return fused_posterior(evidence, self.setting, self.weight, rows, prompts)


def distinct_settings(evidence: Evidence, config: TuneConfig) -> list[Setting]:
    """The distinct settings; copies that are no-ops for every clip are left out.

    Without --temperatures, each has the ALM's maximum-likelihood temperature on all clips, with all prompts.
    """
    fusions = config.fusions if evidence.specialists else config.fusions[:1]
    every = np.arange(len(evidence.targets))

    def temperatures(plain: Setting) -> tuple[float, ...]:
        if not config.temperatures:
            return (fitted(evidence, every, plain).temperature,)
        # Without fusion, temperature changes the predicted label only of averaged posteriors.
        decides = evidence.specialists or config.objective == "nll" or plain.ensemble == "probability"
        return config.temperatures if decides else config.temperatures[:1]

    settings = []
    for key, alm in evidence.alms.items():
        plain = [(one, temperatures(one)) for one in _plain_settings(key, alm, config)]
        settings += [
            replace(one, fusion=fusion, temperature=temperature, specialist=specialist)
            for specialist in [*evidence.specialists] or [None]
            for one, found in plain
            for fusion in fusions
            for temperature in found
        ]
    return settings


def _plain_settings(key: str, alm: Alm, config: TuneConfig) -> list[Setting]:
    """The distinct copies and ensembles of an ALM, at temperature 1."""
    choices = product(_distinct(alm.audio), list(_distinct(alm.text)), config.ensembles)
    return [Setting(*choice, config.fusions[0], 1.0, alm=key) for choice in choices]


def block_of(evidence: Evidence, setting: Setting, objective: Objective) -> Block:
    """All subsets and weights of a setting, as the search's input."""
    alm = evidence.alms[setting.alm]
    specialist = evidence.specialists[setting.specialist] if setting.specialist else None
    text = alm.text[setting.text]
    return Block(
        prompt_scores(alm.audio[setting.a], text, alm.scale),
        prompt_gram(text),
        None if specialist is None else specialist.posterior,
        np.ones(len(evidence.labels), bool) if specialist is None else specialist.inside,
        evidence.targets,
        evidence.folds,
        setting.ensemble,
        setting.fusion,
        setting.temperature,
        objective,
    )


def _distinct(arrays: dict[Any, NDArray]) -> Iterator[Any]:
    seen: list[NDArray] = []
    for key, array in arrays.items():
        if not any(np.array_equal(array, other) for other in seen):
            seen.append(array)
            yield key
