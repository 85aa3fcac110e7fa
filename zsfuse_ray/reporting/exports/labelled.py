"""The tables of a labelled run, read part by part: as batches of segments, or recording by recording."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zsfuse_ray.archive.layout import RECORDINGS, RUN, SEGMENTS
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import UNSURE
from zsfuse_ray.runs.folder import Output

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Segment:
    """A labelled stretch of speech; times in seconds from the start of the file."""

    start_s: float
    end_s: float
    label: str
    confidence: float
    channel: int | None = None  # counted from 0; None in a mix of channels
    speaker: str | None = None
    text: str | None = None  # its transcript, if there is one


@dataclass(frozen=True)
class Recording:
    """A recording and its segments, by start; duration_s: at least the end of the last one."""

    uri: str
    duration_s: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class LabelledRun:
    """A complete run of score in a folder, and its run.json."""

    out: Output
    record: dict[str, Any]

    @classmethod
    def open(cls, uri: str) -> "LabelledRun":
        """Open the output of ``zsfuse score``; InputError if it has no labels, or not yet all of them."""
        out = Output.open(uri, "--run")
        record = out.read_json(RUN)
        if record is None or not record.get("config", {}).get("labels"):
            raise InputError(f"--run {out.uri}: no labels there; name the output of zsfuse score")
        if record.get("status") != "complete":
            raise InputError(f"--run {out.uri} is incomplete; run the same zsfuse score again, it resumes")
        return cls(out, record)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that its segments may have."""
        unsure = (UNSURE,) if self.record["config"]["unsure_below"] else ()
        return (*self.record["config"]["labels"], *unsure)

    @property
    def models(self) -> str:
        """The names of its models."""
        return " + ".join(facts["model"] for facts in self.record["models"].values())

    @property
    def schema(self) -> pa.Schema:
        """Columns of the segments."""
        return self.out.schema(SEGMENTS)

    @property
    def extra_columns(self) -> list[str]:
        """Those of the columns channel, speaker and text that the segments have, also from a manifest."""
        schema = self.schema
        texts = [
            name
            for name in ("speaker", "text")
            if name in schema.names and pa.types.is_string(schema.field(name).type)
        ]
        has_channels = self.record["config"].get("channels", "mix") != "mix"
        return ["channel"] * has_channels + texts

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All segments with all columns, in the order of the tables."""
        schema = self.schema
        for path in sorted(self.out.parquet_files(SEGMENTS)):
            file = pq.ParquetFile(pa.BufferReader(self.out.read_bytes(path)))  # whole: a part of the run
            for batch in file.iter_batches(BATCH_ROWS):
                yield batch.cast(schema)

    def uris(self) -> Counter[str]:
        """How many rows of recordings each URI has: several, if a manifest names slices of one file."""
        found: Counter[str] = Counter()
        for path in sorted(self.out.parquet_files(RECORDINGS)):
            found.update(self._rows(path, ["recording_uri"])["recording_uri"])
        return found

    def recordings(self) -> Iterator[Recording]:
        """Every file that could be read, with its segments; the slices of one file together, at the end."""
        sliced = {uri: Recording(uri, 0.0, ()) for uri, rows in self.uris().items() if rows > 1}
        for path in sorted(self.out.parquet_files(RECORDINGS)):
            name = f"{SEGMENTS}/{path.rsplit('/', 1)[1]}"
            columns = ["recording_uri", "start_s", "end_s", "label", "confidence", *self.extra_columns]
            rows = self._rows(self.out.path(name), columns) if self.out.exists(name) else {columns[0]: []}
            own = {
                uri: tuple(Segment(**dict(zip(columns[1:], values, strict=True))) for _, *values in group)
                for uri, group in groupby(zip(*rows.values(), strict=True), lambda row: row[0])
            }
            files = self._rows(path, ["recording_uri", "duration_s"])
            for uri, duration in zip(*files.values(), strict=True):
                segments = own.get(uri, ())
                end = max((one.end_s for one in segments), default=0.0)
                if uri in sliced:
                    known = sliced[uri]
                    duration = max(known.duration_s, duration or 0.0, end)
                    sliced[uri] = Recording(uri, duration, (*known.segments, *own.pop(uri, ())))
                elif duration is not None:
                    yield Recording(uri, max(duration, end), segments)
        for uri, one in sliced.items():
            yield Recording(uri, one.duration_s, tuple(sorted(one.segments, key=lambda s: s.start_s)))

    def _rows(self, path: str, columns: list[str]) -> dict[str, list[Any]]:
        """Columns of one file, by name."""
        return self.out.read_file(path, columns=columns).to_pydict()
