"""Read the headers of recordings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.files import suffix
from zsfuse_ray.audio.isolated import probe
from zsfuse_ray.audio.manifest import PROBE
from zsfuse_ray.audio.outages import Outage, answers, archive_root, unless_outage
from zsfuse_ray.audio.redirects import allow_only
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.errors import RunError, redact

# A file with one of these suffixes that is not audio is a failure; any other file is not a recording.
AUDIO_SUFFIXES = frozenset((
    ".wav", ".flac", ".mp3", ".m4a", ".m4b", ".mp4", ".aac", ".ogg", ".oga", ".opus", ".webm",
    ".wma", ".aif", ".aiff", ".aifc", ".ac3", ".amr", ".au", ".caf", ".mka", ".mkv", ".mov", ".avi",
    ".mpg", ".mpeg", ".mpc", ".ape", ".wv", ".tta", ".tak", ".ofr", ".spx", ".dsf", ".dff", ".gsm",
    ".ra", ".rm", ".3gp", ".mp2", ".mp1", ".asf", ".w64",
))  # fmt: skip
PROBES_PER_TASK = 64

HEADER = ("duration_s", "sample_rate", "channels", "container", "codec", "exact")
PROBED = pa.schema(
    [
        ("recording_id", pa.int64()),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int32()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("exact", pa.bool_()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


def probe_all(uris: pa.Table, allow_hosts: Sequence[str] = ()) -> pa.Table:
    """Headers of (recording_id, uri) rows as PROBED, in order; by Ray tasks if there are many.

    allow_hosts: as in `list_archive`, for redirections.

    RunError if what holds a recording does not answer.
    """
    try:
        if len(uris) <= PROBES_PER_TASK:
            return _probe_allowed(uris, allow_hosts)  # faster than starting a task; files are read in a child
        return _probe_in_tasks(uris, allow_hosts)
    except Outage as error:  # one that comes from a task is of this class as well
        raise _stopped(str(error).strip().rpartition("Outage: ")[2]) from None


def check_root(archive: str, headers: pa.Table) -> None:
    """RunError if recordings were not found because the folder of the archive is away."""
    root = archive_root(archive)
    if root and "not_found" in headers["reason"].to_pylist() and not answers(root):
        raise _stopped(f"{redact(root)} does not answer: recordings that were listed in it are not found")


def _stopped(line: str) -> RunError:
    return RunError(f"{line}\nerror: the run stopped; the same command resumes")


def _probe_allowed(batch: pa.Table, allow_hosts: Sequence[str]) -> pa.Table:
    allow_only(allow_hosts)
    return probe_recordings(batch)


def _probe_in_tasks(uris: pa.Table, allow_hosts: Sequence[str]) -> pa.Table:
    import ray.data  # lazy: a Labeller does not need Ray

    probed = (
        ray.data.from_arrow(uris)
        .repartition(target_num_rows_per_block=PROBES_PER_TASK)
        .map_batches(
            partial(_probe_allowed, allow_hosts=allow_hosts), batch_size=None, batch_format="pyarrow"
        )
    )
    refs: Any = probed.to_arrow_refs()  # typed as another ObjectRef than ray.get's
    return pa.concat_tables(ray.get(refs)).sort_by("recording_id")


def with_headers(recordings: pa.Table, headers: pa.Table) -> pa.Table:
    """Recordings with their headers, PROBED rows in the same order, as additional columns."""
    for name in PROBED.names[1:]:
        recordings = recordings.append_column(f"{PROBE}{name}", headers[name])
    return recordings


def probe_recordings(batch: pa.Table) -> pa.Table:
    """Headers of recordings: (recording_id, uri) → PROBED. Unreadable files get a reason instead.

    Raises Outage if what holds a recording does not answer.
    """
    rows = []
    for recording_id, uri in zip(batch["recording_id"].to_pylist(), batch["uri"].to_pylist(), strict=True):
        row: dict[str, Any] = {"recording_id": recording_id}
        try:
            header = unless_outage(partial(probe, uri), uri, None)
            row |= {name: getattr(header, name) for name in HEADER}
        except Outage:
            raise
        except (DecodeError, SourceError) as error:
            row |= {"reason": error.reason, "message": redact(str(error), uri)}
            if error.reason == "not_audio" and suffix(uri) not in AUDIO_SUFFIXES:
                row["reason"] = "not_a_recording"
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PROBED)
