"""Helpers for tests of training: tables of clips, tiny models, clips in memory, several processes."""

import pickle
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import torch.multiprocessing

from tests.models.tiny_models import FAMILIES
from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.models.checkpoints.load import quiet
from zsfuse_ray.training.loop import Clips

RATE = 16_000
EMOTIONS = ("angry", "happy", "sad")


def table_of(
    emotions: Sequence[str], splits: Sequence[str] | None = None, corpora: Sequence[str] | None = None
) -> pa.Table:
    """CLIPS with these emotions, by default all in train, each by a different speaker."""
    n = len(emotions)
    columns = {
        "uri": [f"clip{i}.wav" for i in range(n)],
        "emotion": list(emotions),
        "speaker": [f"s{i}" for i in range(n)],
        "corpus": list(corpora or ["one"] * n),
        "split": list(splits or ["train"] * n),
    }
    empty = {field.name: pa.nulls(n, field.type) for field in CLIPS}
    return pa.table(empty | {k: pa.array(v) for k, v in columns.items()}, schema=CLIPS)


def start(folder: Path, family: str = "wavlm", **settings: Any) -> Path:
    """A folder with a tiny model's configuration and feature extractor, and no weights."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        model, extractor = FAMILIES[family]()
        for name, value in settings.items():
            setattr(model.config, name, value)
        model.config.save_pretrained(folder)
        extractor.save_pretrained(folder)
    return folder


def config_of(init: Path, **options: Any) -> TrainConfig:
    """Options of a small training."""
    given = {"init": str(init), "output": "out", "train": "train.csv", "batch_s": 8.0, "crop_s": 1.0}
    return build(TrainConfig, given | options)


def tones(n: int, seconds: Sequence[float] = (0.6, 1.0), seed: int = 0) -> list[np.ndarray]:
    """int16 clips in noise; the pitch of clip i encodes its emotion, in turn from EMOTIONS."""
    rng = np.random.default_rng(seed)
    clips = []
    for i in range(n):
        t = np.arange(round(rng.uniform(*seconds) * RATE)) / RATE
        pitch = (200, 700, 2000)[i % 3] * rng.uniform(0.9, 1.1)
        sound = 0.3 * np.sin(2 * np.pi * pitch * t) + 0.05 * rng.standard_normal(len(t))
        clips.append((sound * 32767).clip(-32768, 32767).astype(np.int16))
    return clips


def clips_of(table: pa.Table, samples: Sequence[np.ndarray]) -> Clips:
    """Clips in memory."""
    splits = np.array(table["split"].to_pylist())
    return Clips(
        lambda rows: [samples[row] for row in rows],
        np.array([len(s) for s in samples]),
        list(zip(table["corpus"].to_pylist(), table["emotion"].to_pylist(), strict=True)),
        np.flatnonzero(splits == "train"),
        np.flatnonzero(splits == "dev"),
    )


def in_processes(work: Callable[..., Any], world: int, *arguments: Any) -> Any:
    """The first result of work(*arguments) run in ``world`` processes connected by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:  # a queue could deadlock on join
        torch.multiprocessing.spawn(_process, (world, port, folder, work, arguments), nprocs=world)
        return pickle.loads((Path(folder) / "result").read_bytes())


def _process(rank: int, world: int, port: int, folder: str, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    found = work(*arguments)
    if rank == 0:
        (Path(folder) / "result").write_bytes(pickle.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
