"""What a tuning chooses from: the settings that it searches, a block each, and configurations."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.settings import Setting, fused_posterior
from zsfuse_ray.method.search import Block, Objective, members, prompt_gram, prompt_scores


@dataclass(frozen=True)
class Configuration:
    """Everything that there is to choose; subset: the templates that are used, as the bits of a number."""

    setting: Setting
    subset: int
    weight: float

    def templates(self, n_prompts: int) -> NDArray[np.intp]:
        """Places of the templates that are used."""
        return np.flatnonzero(members(np.array([self.subset], np.uint64), n_prompts)[0])

    def record(self, templates: tuple[str, ...]) -> dict[str, Any]:
        """The choice in plain values."""
        chosen = [templates[t] for t in self.templates(len(templates))]
        how = {key: value for key, value in asdict(self.setting).items() if key != "text"}
        return how | asdict(self.setting.text) | {"templates": chosen, "weight": self.weight}

    def posterior(self, evidence: Evidence, rows: NDArray) -> NDArray[np.float64]:
        """The fused posteriors (rows, C)."""
        prompts = self.templates(evidence.n_prompts)
        return fused_posterior(evidence, self.setting, self.weight, rows, prompts)


def distinct_settings(evidence: Evidence, config: TuneConfig) -> list[Setting]:
    """Every setting that differs from the others: copies that change nothing for any clip are left out."""
    fusions = config.fusions if evidence.specialists else config.fusions[:1]
    return [
        Setting(*choice, alm=key, specialist=specialist)
        for key, alm in evidence.alms.items()
        for specialist in [*evidence.specialists] or [None]
        for choice in product(
            _distinct(alm.audio), _distinct(alm.text), config.ensembles, fusions, config.temperatures
        )
        # Without fusion, temperature changes the order of labels in averaged posteriors only.
        if evidence.specialists
        or config.objective == "nll"
        or choice[2] == "probability"
        or choice[4] == config.temperatures[0]
    ]


def block_of(evidence: Evidence, setting: Setting, objective: Objective) -> Block:
    """All subsets and weights of a setting, in the form that the search takes."""
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
