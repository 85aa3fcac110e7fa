"""Labelled clips, decoded once by Ray Data and kept in Ray's object store for random access."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import TaskPoolStrategy

from zsfuse_ray.archive.stages.decode import MOST_TRIES
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.isolated import ChildError, decode
from zsfuse_ray.audio.outages import Outage, unless_outage
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.audio.trim import trimmed
from zsfuse_ray.errors import redact
from zsfuse_ray.runs.tally import start_tally

BLOCK_CLIPS = 64  # some megabytes: a step reads from many blocks, each as a whole
LONGEST_S = 60.0  # longer clips are truncated

_DECODED = pa.schema([("row", pa.int64()), ("pcm", pa.large_binary()), ("problem", pa.string())])


@dataclass(frozen=True)
class StoredClips:
    """References to each row's int16 samples: blocks in the object store, and (block, index in it) per row.

    samples: length of each row, 0 for an unreadable clip, whose error is in ``problems``.
    """

    blocks: list[Any]
    places: NDArray[np.int64]
    samples: NDArray[np.int64]
    problems: dict[int, str]

    def fetch(self, rows: Sequence[int]) -> list[NDArray[np.int16]]:
        """Return the samples of these rows: read-only views of the object store."""
        wanted = sorted({int(self.places[row, 0]) for row in rows})
        tables = dict(zip(wanted, ray.get([self.blocks[block] for block in wanted]), strict=True))
        return [_pcm(tables[int(block)], int(place)) for block, place in self.places[list(rows)]]

    def keep(self, rows: NDArray[np.int64]) -> "StoredClips":
        """Return a selection in which row i is this one's rows[i]."""
        return StoredClips(self.blocks, self.places[rows], self.samples[rows], {})


def store_clips(table: pa.Table, sample_rate: int, cores: int | None = None) -> StoredClips:
    """Decode every clip of a CLIPS table at sample_rate Hz, without the silence at its ends.

    cores: maximum number of concurrent decoding tasks. An unreadable clip gets an entry in ``problems``; an
    unreachable object store raises SourceError.
    """
    rows = table.select(["uri", "start_s", "end_s"]).append_column(
        "row", pa.array(range(len(table)), pa.int64())
    )
    parts = [rows.slice(at, BLOCK_CLIPS).combine_chunks() for at in range(0, len(rows), BLOCK_CLIPS)]
    decoded = (
        ray.data.from_arrow(parts)
        .map_batches(
            partial(_decode_batch, sample_rate=sample_rate, tally=start_tally()),
            batch_format="pyarrow",
            batch_size=BLOCK_CLIPS,
            compute=TaskPoolStrategy(size=cores) if cores else None,
        )
        .materialize()
    )
    blocks = decoded.to_arrow_refs()
    places = np.zeros((len(table), 2), np.int64)
    samples = np.zeros(len(table), np.int64)
    problems = {}
    for block, contents in enumerate(ray.get([_contents.remote(ref) for ref in blocks])):
        for place, (row, length, problem) in enumerate(contents):
            places[row], samples[row] = (block, place), length
            if problem is not None:
                problems[row] = problem
    return StoredClips(blocks, places, samples, problems)


def _decode_batch(batch: pa.Table, sample_rate: int, tally: Any) -> pa.Table:
    torch.set_num_threads(1)  # tasks run in parallel, one per core
    rows = []
    for clip in batch.to_pylist():
        pcm, problem = b"", None
        tries: Any = ray.get(tally.begin.remote(clip["row"]))
        try:
            if tries > MOST_TRIES:  # Ray would retry it forever
                raise DecodeError("crashed", f"decoding it killed its process {MOST_TRIES} times")
            read = partial(decoded_clip, clip["uri"], clip["start_s"], clip["end_s"], sample_rate)
            pcm = unless_outage(read, clip["uri"], None).tobytes()
        except Outage:
            raise
        except (DecodeError, SourceError) as error:
            problem = f"{error.reason}: {error}"
        except (ImportError, ChildError):  # a broken installation is not the file's fault
            raise
        except Exception as error:  # untrusted files can raise anything in a decoder
            problem = f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:200]}"
        tally.end.remote(clip["row"])
        rows.append({"row": clip["row"], "pcm": pcm, "problem": problem})
    return pa.Table.from_pylist(rows, schema=_DECODED)


def decoded_clip(uri: str, start_s: float | None, end_s: float | None, sample_rate: int) -> NDArray[np.int16]:
    """Return a clip's samples at sample_rate Hz without the silence at its ends, at most LONGEST_S long.

    Raises DecodeError (also for a silent clip) and SourceError.
    """
    pcm = decode(uri, start_s or 0.0, end_s, max_s=LONGEST_S)
    first, last = trimmed(pcm.samples, pcm.sample_rate)
    samples = resample(torch.from_numpy(pcm.samples[first:last].copy()), pcm.sample_rate, sample_rate)
    if not len(samples) or not samples.any():
        raise DecodeError("silent", f"no sound in {uri}")
    return (samples * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()


@ray.remote  # one CPU each: with 0 CPUs Ray would start a process per block at once
def _contents(block: pa.Table) -> list[tuple[int, int, str | None]]:
    sizes = [len(_pcm(block, place)) for place in range(len(block))]
    return list(zip(block["row"].to_pylist(), sizes, block["problem"].to_pylist(), strict=True))


def _pcm(block: pa.Table, place: int) -> NDArray[np.int16]:
    return np.frombuffer(block["pcm"][place].as_buffer(), np.int16)
