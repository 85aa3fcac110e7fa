"""Clips of numbers for tuning: an ALM and a specialist that hear as much of a label as they are told."""

import numpy as np

from zsfuse_ray.config.options import build
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.tuning.choice import Candidates
from zsfuse_ray.tuning.evidence import Alm, Evidence, Specialist, Text, block, spaces
from zsfuse_ray.tuning.summary import summarise

LABELS = ("angry", "happy", "neutral", "sad")
DIM = 16


def config(templates: int = 4, **options: object) -> TuneConfig:
    """A configuration of so many templates."""
    names = tuple(f"{n} {{}}" for n in range(templates))
    given = {"input": "clips.csv", "output": "out", "resamples": 200, "temperatures": "1", **options}
    return build(TuneConfig, {"templates": names, **given})


def evidence(
    seed: int = 0,
    alm: float = 1.0,
    specialist: float = 1.0,
    n_speakers: int = 12,
    n_each: int = 20,
    templates: int = 4,
    shuffled: bool = False,
) -> Evidence:
    """alm, specialist: how much of the label each hears; 0 is nothing. Template 0 is the best one."""
    rng = np.random.default_rng(seed)
    n = n_speakers * n_each
    targets = rng.integers(0, len(LABELS), n)
    directions = rng.normal(size=(len(LABELS), DIM))

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    audio = {a: unit(alm * directions[targets] + 2 * rng.normal(size=(n, DIM))) for a in (1, 2)}
    noise = np.linspace(0.2, 2, templates)[:, None, None]
    text = {
        Text(b): unit(directions + noise * rng.normal(size=(templates, len(LABELS), DIM))) for b in (1, 2)
    }
    logits = specialist * np.eye(len(LABELS))[targets] + rng.normal(size=(n, len(LABELS)))
    speakers = np.repeat([f"s{i:02}" for i in range(n_speakers)], n_each)
    return Evidence(
        labels=LABELS,
        targets=rng.permutation(targets) if shuffled else targets,
        speakers=speakers,
        folds=np.repeat(np.arange(n_speakers) % 4, n_each),
        alms={"alm": Alm(audio, text, 20.0)},
        specialists={"specialist": Specialist(softmax(2 * logits), np.ones(len(LABELS), bool))},
    )


def searched(e: Evidence, options: TuneConfig) -> Candidates:
    """All blocks of the evidence."""
    blocks = spaces(e, options)
    summaries = [summarise(block(e, space))[0] for space in blocks]
    return Candidates.of(blocks, block(e, blocks[0]).weights, summaries)
