"""Vectors of three corpora from the shipped trunk, and what models of the *other* corpora make of each.

The trunk is the first layers of Whisper base, which was not trained on emotion. The heads that come with it
are not used: they were trained on these corpora.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dev.learning_curve.options import LearningCurveConfig
from dev.mini.heads import Clips, Heads, fit, joined
from dev.mini.options import CORPORA
from dev.mini.vectors import captions, encoded
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.load import concatenated, load
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prompts import TEMPLATES, prompt_grid, repeat_text
from zsfuse_ray.method.zeroshot import scores, softmax
from zsfuse_ray.models.catalog import load as load_model
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.models.families.pooled import PooledAlm

HIDDEN = 256  # of the audio projection, as in the shipped model
COPIES = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Target:
    """Clips of a corpus, and the outputs of models that were trained on the other corpora only.

    vectors: (n, V). scores: (n, C) of the ALM, without amplification. control: logits (n, C) of a supervised
    classifier trained on the same clips as the ALM; known: (C,), the labels that those clips have.
    """

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    vectors: NDArray[np.float32]
    scores: NDArray[np.float64]
    control: NDArray[np.float64]
    known: NDArray[np.bool_]
    clips_of_others: int
    repeated: "Repeated"

    @property
    def alm_posterior(self) -> NDArray[np.float64]:
        """The ALM's posterior (n, C) at the temperature of its training."""
        return softmax(self.scores)

    @property
    def control_posterior(self) -> NDArray[np.float64]:
        """The control's posterior (n, C); 0 for labels it does not know."""
        return softmax(np.where(self.known, self.control, -np.inf))


@dataclass(frozen=True, eq=False)
class Repeated:
    """Some of the clips, and the ALM's scores (n, C) by copies of audio and prompt (a, b)."""

    targets: NDArray[np.int64]
    speakers: NDArray[np.str_]
    scores: Mapping[tuple[int, int], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus: its clips by numbers of all labels, and those clips with repeated audio, by copies."""

    table: pa.Table
    clips: Clips
    rows: NDArray[np.intp]  # clips that are labelled or tested
    repeated_rows: NDArray[np.intp]
    repeated: Mapping[int, NDArray[np.float32]]  # vectors by copies of the audio


def targets(config: LearningCurveConfig) -> dict[str, Target]:
    """Encode the corpora, train an ALM and a classifier without each of them, and apply these to it."""
    alm = load_model(parse_spec("pooled-alm:mini", "alm"))
    assert isinstance(alm, PooledAlm)
    folder = Path(config.vectors)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: load((f"{name}:{config.corpora}/{name}",)) for name in CORPORA}
    every = label_set(concatenated(list(tables.values())))
    corpora: dict[str, Corpus] = {}
    speakers = 0
    for place, (name, table) in enumerate(tables.items()):
        clips = encoded(alm.trunk, table, folder / f"{name}.npz")[0]
        if len(clips.targets) < len(table):
            raise InputError(
                f"--corpora: {len(table) - len(clips.targets)} clips of {name} cannot be decoded"
            )
        rows = sampled(table, config.per_speaker)
        some = sampled(table, config.repeated_per_speaker)
        repeated = {1: clips.vectors[some]}
        for a in COPIES[1:]:
            cache = folder / f"{name}-{config.repeated_per_speaker}-x{a}.npz"
            repeated[a] = encoded(alm.trunk, table.take(pa.array(some)), cache, a)[0].vectors
        corpora[name] = Corpus(table, clips.among(every, place, speakers), rows, some, repeated)
        speakers = corpora[name].clips.speakers.max() + 1
    texts = captions(alm, every)
    found = {}
    for name, corpus in corpora.items():
        others = _numbered([own.clips for other, own in corpora.items() if other != name])
        print(f"{name}: training an ALM and a classifier on {len(others.targets)} other clips", flush=True)
        heads = fit(others, texts, HIDDEN, config.seed)
        found[name] = _applied(heads, alm, corpus, len(others.targets))
    return found


def sampled(table: pa.Table, most: int) -> NDArray[np.intp]:
    """Rows of at most so many clips of each speaker, drawn at random, in order."""
    rng = np.random.default_rng(0)
    speakers = np.array(table["speaker"].to_pylist())
    rows = [np.flatnonzero(speakers == one) for one in np.unique(speakers)]
    return np.sort(np.concatenate([rng.choice(own, min(most, len(own)), replace=False) for own in rows]))


def _numbered(parts: list[Clips]) -> Clips:
    """Join corpora, which `heads.fit` expects to be numbered from 0."""
    every = joined(parts)
    return replace(every, corpora=np.unique(every.corpora, return_inverse=True)[1])


def _applied(heads: Heads, alm: PooledAlm, corpus: Corpus, clips_of_others: int) -> Target:
    labels, every = label_set(corpus.table), corpus.clips.labels
    columns = [every.index(label) for label in labels]
    banks = {b: _bank(alm, labels, b) for b in COPIES}

    def alm_scores(vectors: NDArray[np.float32], b: int) -> NDArray[np.float64]:
        embeddings = heads.embeddings(heads.standardised(vectors))
        return scores(embeddings, banks[b], float(np.exp(heads.log_scale)))

    place = {number: n for n, number in enumerate(columns)}
    target = np.array([place[number] for number in corpus.clips.targets])
    speaker = np.array(corpus.table["speaker"].to_pylist())
    rows, some = corpus.rows, corpus.repeated_rows
    vectors = corpus.clips.vectors[rows]
    by_copies = {(a, b): alm_scores(own, b) for a, own in corpus.repeated.items() for b in COPIES}
    return Target(
        labels,
        target[rows],
        speaker[rows],
        vectors,
        alm_scores(vectors, 1),
        heads.logits(heads.standardised(vectors))[:, columns].astype(np.float64),
        heads.known[columns],
        clips_of_others,
        Repeated(target[some], speaker[some], by_copies),
    )


def _bank(alm: PooledAlm, labels: tuple[str, ...], b: int) -> NDArray[np.float32]:
    """Embeddings (P, C, D) of the default prompts, each b times."""
    grid = prompt_grid(labels, TEMPLATES)
    texts = [repeat_text(prompt, b) for row in grid for prompt in row]
    return alm.embed_text(texts)[0].numpy().reshape(len(grid), len(labels), -1)
