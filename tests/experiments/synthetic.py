"""A synthetic corpus: clips with speakers, and model outputs with a chosen amount of label information."""

import numpy as np
import pyarrow as pa

from zsfuse_ray.config.options import build
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.experiments.evidence import Alm, Evidence, Specialist, Text
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.tune.choice import Candidates
from zsfuse_ray.experiments.tune.configurations import block_of, distinct_settings
from zsfuse_ray.experiments.tune.summary import summarise

LABELS = ("angry", "happy", "neutral", "sad")
DIM = 16


def clips(n_speakers: int = 12, n_each: int = 10, split: bool = True, fold: bool = False) -> pa.Table:
    """CLIPS of one corpus; split: half of the speakers in train, a quarter each in dev and test."""
    rows = []
    for s in range(n_speakers):
        part = None
        if split:
            part = "train" if s < n_speakers // 2 else "dev" if s < 3 * n_speakers // 4 else "test"
        for i in range(n_each):
            row = {
                "uri": f"{s}_{i}.wav",
                "emotion": LABELS[i % 4],
                "speaker": f"s{s:02}",
                "corpus": "numbers",
            }
            rows.append(row | {"split": part, "fold": s % 3 + 1 if fold else None})
    return pa.Table.from_pylist(rows, schema=CLIPS)


def evidence(
    seed: int = 0,
    alm: float = 1.0,
    specialist: float = 1.0,
    n_speakers: int = 12,
    n_each: int = 20,
    templates: int = 4,
    audio_repeats: tuple[int, ...] = (1, 2),
    text_repeats: tuple[int, ...] = (1, 2),
    shuffled: bool = False,
) -> Evidence:
    """alm, specialist: amount of label information in their outputs, from 0. Template 0 is the best."""
    rng = np.random.default_rng(seed)
    n = n_speakers * n_each
    targets = rng.integers(0, len(LABELS), n)
    directions = rng.normal(size=(len(LABELS), DIM))

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    audio = {a: unit(alm * directions[targets] + 2 * rng.normal(size=(n, DIM))) for a in audio_repeats}
    noise = np.linspace(0.2, 2, templates)[:, None, None]
    text = {
        Text(b): unit(directions + noise * rng.normal(size=(templates, len(LABELS), DIM)))
        for b in text_repeats
    }
    one_hot = np.eye(len(LABELS))[targets]
    logits = specialist * one_hot + rng.normal(size=one_hot.shape)
    given = rng.permutation(targets) if shuffled else targets
    features = np.hstack([one_hot + 0.7 * rng.normal(size=one_hot.shape), rng.normal(size=one_hot.shape)])
    return Evidence(
        labels=LABELS,
        targets=given,
        speakers=np.repeat([f"s{i:02}" for i in range(n_speakers)], n_each),
        folds=np.repeat(np.arange(n_speakers) % 4, n_each),
        alms={"alm": Alm(audio, text, 20.0)},
        specialists={"specialist": Specialist(2 * logits, np.eye(len(LABELS), dtype=bool))},
        features=features.astype(np.float32),
    )


def split_round(e: Evidence) -> Round:
    """Half of the clips in train, a quarter each in dev and test, by speaker."""
    n = len(e.targets)
    return Round(np.arange(n // 2), np.arange(n // 2, 3 * n // 4), np.arange(3 * n // 4, n))


def config(templates: int = 4, **options: object) -> TuneConfig:
    """The configuration of a tuning with this many templates."""
    names = tuple(f"{n} {{}}" for n in range(templates))
    given = {"input": "clips.csv", "output": "out", "resamples": 200, "temperatures": "1", **options}
    return build(TuneConfig, {"templates": names, **given})


def searched(e: Evidence, options: TuneConfig) -> Candidates:
    """Candidates of all blocks of the evidence."""
    settings = distinct_settings(e, options)
    blocks = [block_of(e, setting, options.objective) for setting in settings]
    return Candidates.of(settings, blocks[0].weights, [summarise(block)[0] for block in blocks])
