"""What a tuning chooses on: what the models say of labelled clips and of prompts, and what can be chosen."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.method.fusion import Rule, fuse
from zsfuse_ray.method.search import Block, Objective, members, prompt_gram, prompt_scores
from zsfuse_ray.method.zeroshot import Ensemble, posterior


@dataclass(frozen=True)
class Text:
    """How a template becomes text: b copies with a separator between, of so many words a label."""

    b: int = 1
    separator: str = " "
    words: int = 1


@dataclass(frozen=True, eq=False)
class Alm:
    """What an ALM makes of the clips and of the prompts.

    audio: a -> (n, D) embeddings; text: how -> (T, C, D), of each template the mean over its words.
    """

    audio: dict[int, NDArray[np.float32]]
    text: dict[Text, NDArray[np.float32]]
    scale: float


@dataclass(frozen=True, eq=False)
class Specialist:
    """What a specialist says of the clips: posteriors (n, C) on the label set; the labels it knows, (C,)."""

    posterior: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Labelled clips as the models hear them.

    targets (n,) are places in labels; folds (n,) count from 0 and share no speaker. The models by their names
    in tables: at least one ALM, any number of specialists.
    """

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    folds: NDArray[np.int64]
    alms: dict[str, Alm]
    specialists: dict[str, Specialist]
    objective: Objective = "ua"

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    @property
    def n_prompts(self) -> int:
        """T: how many templates there are to choose from."""
        return len(next(iter(next(iter(self.alms.values())).text.values())))


@dataclass(frozen=True)
class Space:
    """What one block holds still while all its subsets and weights are tried."""

    a: int
    text: Text
    ensemble: Ensemble
    fusion: Rule
    temperature: float
    alm: str = "alm"
    specialist: str | None = "specialist"

    @property
    def name(self) -> str:
        """A name for files and trials that no other block has, but for its separator."""
        words = f"_words{self.text.words}" if self.text.words > 1 else ""
        models = "".join(f"{name}_" for name in (self.alm, self.specialist) if name and name[-1].isdigit())
        return f"{models}a{self.a}_b{self.text.b}{words}_{self.ensemble}_{self.fusion}_T{self.temperature:g}"


@dataclass(frozen=True)
class Configuration:
    """Everything that there is to choose; subset: the templates that are used, as the bits of a number."""

    space: Space
    subset: int
    weight: float

    def templates(self, n_prompts: int) -> NDArray[np.intp]:
        """Places of the templates that are used."""
        return np.flatnonzero(members(np.array([self.subset], np.uint64), n_prompts)[0])

    def about(self, templates: tuple[str, ...]) -> dict[str, Any]:
        """What was chosen, in plain values."""
        chosen = [templates[t] for t in self.templates(len(templates))]
        how = {key: value for key, value in asdict(self.space).items() if key != "text"}
        return how | asdict(self.space.text) | {"templates": chosen, "weight": self.weight}


def spaces(evidence: Evidence, config: TuneConfig) -> list[Space]:
    """Every block that differs from the others: copies that change nothing for any clip are left out."""
    fusions = config.fusions if evidence.specialists else config.fusions[:1]
    return [
        Space(*choice, alm=key, specialist=specialist)
        for key, alm in evidence.alms.items()
        for specialist in [*evidence.specialists] or [None]
        for choice in product(
            _different(alm.audio), _different(alm.text), config.ensembles, fusions, config.temperatures
        )
        # Without fusion, temperature changes the order of labels in averaged posteriors only.
        if evidence.specialists
        or config.objective == "nll"
        or choice[2] == "probability"
        or choice[4] == config.temperatures[0]
    ]


def block(evidence: Evidence, space: Space) -> Block:
    """The block in the form that the search takes."""
    alm = evidence.alms[space.alm]
    specialist = evidence.specialists[space.specialist] if space.specialist else None
    text = alm.text[space.text]
    return Block(
        prompt_scores(alm.audio[space.a], text, alm.scale),
        prompt_gram(text),
        None if specialist is None else specialist.posterior,
        np.ones(len(evidence.labels), bool) if specialist is None else specialist.inside,
        evidence.targets,
        evidence.folds,
        space.ensemble,
        space.fusion,
        space.temperature,
        evidence.objective,
    )


def alm_posterior(evidence: Evidence, chosen: Configuration, rows: NDArray) -> NDArray[np.float64]:
    """The ALM's posteriors (rows, C) in a configuration, by the plain functions of the method."""
    space, alm = chosen.space, evidence.alms[chosen.space.alm]
    text = alm.text[space.text][chosen.templates(evidence.n_prompts)]
    return posterior(alm.audio[space.a][rows], text, alm.scale, space.ensemble, space.temperature)


def predict(evidence: Evidence, chosen: Configuration, rows: NDArray) -> NDArray[np.float64]:
    """The fused posteriors (rows, C) in a configuration, by the plain functions of the method."""
    if chosen.space.specialist is None:
        return alm_posterior(evidence, chosen, rows)
    specialist = evidence.specialists[chosen.space.specialist]
    if chosen.weight == 0 and specialist.inside.all():
        return specialist.posterior[rows]
    alm = alm_posterior(evidence, chosen, rows)
    return fuse(specialist.posterior[rows], alm, chosen.weight, chosen.space.fusion, specialist.inside)


def _different(arrays: dict[Any, NDArray]) -> Iterator[Any]:
    seen: list[NDArray] = []
    for key, array in arrays.items():
        if not any(np.array_equal(array, other) for other in seen):
            seen.append(array)
            yield key
