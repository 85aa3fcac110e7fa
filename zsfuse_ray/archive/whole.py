"""The bundles that the files of a pass hold: each once, from whole files only."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zsfuse_ray.archive.layout import PASSES, plan_file
from zsfuse_ray.archive.passes import Encoded, Pass
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.stores import retried


class DamagedPass(InputError):
    """Bundles of a part are missing, and files in its folder cannot be read. folder: the pass's."""

    def __init__(self, place: str, record: str, folder: str, part: int):
        self.folder, self.part = folder, part
        message = f"{place} does not match {record}: a file in it is damaged; encode again with --overwrite"
        super().__init__(message)
        self.given = (place, record, folder, part)

    def __reduce__(self) -> tuple:  # by default only the message would survive pickling
        return DamagedPass, self.given


def read_bundles(
    encoded: Encoded,
    one: Pass,
    part: Part,
    columns: Sequence[str],
    only: NDArray[np.int64] | None = None,
) -> Iterator[pa.Table]:
    """The bundles of a part in a pass, file by file; only: the ids to read, by default all.

    Of a bundle that is there twice, by tasks of a killed run, only the first is read. Files that are not
    whole or not ours are skipped: DamagedPass, at the end, if bundles are missing for that.
    """
    out, seen, skipped = encoded.out, [np.empty(0, np.int64)], False
    for path in part_files(out, one, part.number):
        table = read_whole(out, path, columns if only is None else ["bundle_id"], columns)
        if table is None:
            skipped = True
            continue
        ids = table["bundle_id"].to_numpy()
        if part.bundle_end is not None:
            table = table.filter(pa.array(ids < part.bundle_end))
            ids = ids[ids < part.bundle_end]
        new = ~np.isin(ids, np.concatenate(seen))
        new[np.setdiff1d(np.arange(len(ids)), np.unique(ids, return_index=True)[1])] = False
        seen.append(ids[new])
        if only is not None:
            new &= np.isin(ids, only)
            table = read_whole(out, path, columns) if new.any() else None
            if table is None:
                skipped = skipped or bool(new.any())
                continue
            if part.bundle_end is not None:
                table = table.filter(pa.array(table["bundle_id"].to_numpy() < part.bundle_end))
        yield table if new.all() else table.filter(pa.array(new))
    if skipped and len(np.setdiff1d(planned_bundles(out, part), np.concatenate(seen))):
        place = out.path(f"{one.path}/part={part.number}")
        raise DamagedPass(place, f"{out.uri}/{PASSES}", one.folder, part.number)


def read_whole(out: Output, path: str, columns: Sequence[str], needed: Sequence[str] = ()) -> pa.Table | None:
    """Columns of a Parquet file; None if it was cut off, is damaged or lacks these or the needed columns."""
    content = out.read_bytes(path)  # whole: it has a few bundles
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        if not {*columns, *needed} <= set(file.schema_arrow.names):
            return None
        return file.read(list(columns))
    except (pa.ArrowInvalid, OSError):  # from memory, so both are about the content
        return None


def is_cut_off(out: Output, path: str) -> bool:
    """Whether a file is not Parquet to its end, which is written last."""

    def look() -> bool:
        with out.fs.open_input_file(path) as file:
            return file.size() < 12 or file.read_at(4, file.size() - 4) != b"PAR1"

    return retried(look, out.fs)


def planned_bundles(out: Output, part: Part) -> NDArray[np.int64]:
    """Ids of the part's bundles."""
    path, within = out.path(plan_file(part.increment, "bundles")), bundles_of(part)
    return out.read_file(path, columns=["bundle_id"], filters=within)["bundle_id"].to_numpy()


def bundles_of(part: Part) -> list[tuple[str, str, int]]:
    """Filters for the rows of a part in a plan's table of bundles."""
    end = [("bundle_id", "<", part.bundle_end)] if part.bundle_end is not None else []
    return [("part", "=", part.number), *end]


def part_files(out: Output, one: Pass, part: int) -> list[str]:
    """Paths of the Parquet files of a part, by its number, in a pass, by name."""
    return sorted(out.parquet_files(f"{one.path}/part={part}"))
