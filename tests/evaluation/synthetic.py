"""A corpus of numbers: clips of speakers, and models that hear as much of a label as they are told."""

import numpy as np
import pyarrow as pa

from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.evaluation.heard import Heard
from zsfuse_ray.evaluation.protocol import Round
from zsfuse_ray.method.zeroshot import softmax

LABELS = ("angry", "happy", "neutral", "sad")
DIM = 16


def clips(n_speakers: int = 12, n_each: int = 10, split: bool = True, fold: bool = False) -> pa.Table:
    """CLIPS of one corpus; split: half of the speakers train, a quarter chooses, a quarter tests."""
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


def heard(
    seed: int = 0, alm: float = 1.0, specialist: float = 1.0, n_speakers: int = 12, n_each: int = 20
) -> Heard:
    """alm, specialist: how much of the label each hears; 0 is nothing."""
    rng = np.random.default_rng(seed)
    n = n_speakers * n_each
    targets = rng.integers(0, 4, n)
    directions = rng.normal(size=(4, DIM))
    noise = rng.normal(size=(n, 3, DIM))
    audio = alm * directions[targets][:, None] + 2 * noise
    text = directions[None, None] + 0.5 * rng.normal(size=(2, 5, 4, DIM))
    logits = specialist * np.eye(4)[targets] + rng.normal(size=(n, 4))
    features = np.hstack([np.eye(4)[targets] + 0.7 * rng.normal(size=(n, 4)), rng.normal(size=(n, 4))])
    return Heard(
        labels=LABELS,
        targets=targets,
        speakers=np.repeat([f"s{i:02}" for i in range(n_speakers)], n_each),
        features=features.astype(np.float32),
        specialist=softmax(2 * logits),
        inside=np.ones(4, bool),
        audio=(audio / np.linalg.norm(audio, axis=-1, keepdims=True)).astype(np.float32),
        text=(text / np.linalg.norm(text, axis=-1, keepdims=True)).astype(np.float32),
        scale=20.0,
        audio_repeats=(1, 2, 3),
        text_repeats=(1, 4),
        ensemble="embedding",
    )


def split_round(heard: Heard) -> Round:
    """Half of the clips train, a quarter chooses, a quarter tests, by speakers."""
    n = len(heard.targets)
    return Round(np.arange(n // 2), np.arange(n // 2, 3 * n // 4), np.arange(3 * n // 4, n))
