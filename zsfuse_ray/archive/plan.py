"""Plan an archive: list it, probe every header, and cut it into items.

The rows that Ray schedules, retries and resumes are *bundles*: one item of a long recording, or several short
recordings up to an item's length together. A thousand clips of three seconds are then a dozen rows instead of
a thousand, and what is batched together on a device is fixed by the plan, so that a resumed run computes the
same bits as an undisturbed one.
"""

import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import ray

from zsfuse_ray.archive.listing import PROBE, fingerprint, list_archive
from zsfuse_ray.archive.rows import BUNDLE
from zsfuse_ray.audio.decode import DecodeError, probe
from zsfuse_ray.audio.sources import SourceError, is_outage
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import BUNDLES, PLAN, RECORDINGS_PLANNED, Output
from zsfuse_ray.runs.progress import duration
from zsfuse_ray.runs.provenance import versions

# A file of such a name that is no audio is a failure; of another name, it was never said to be audio.
AUDIO_SUFFIXES = frozenset((
    ".wav", ".flac", ".mp3", ".m4a", ".m4b", ".mp4", ".aac", ".ogg", ".oga", ".opus", ".webm",
    ".wma", ".aif", ".aiff", ".aifc", ".ac3", ".amr", ".au", ".caf", ".mka", ".mkv", ".mov", ".avi",
    ".mpg", ".mpeg", ".mpc", ".ape", ".wv", ".tta", ".tak", ".ofr", ".spx", ".dsf", ".dff", ".gsm",
    ".ra", ".rm", ".3gp", ".mp2", ".mp1", ".asf", ".w64",
))  # fmt: skip
BUNDLE_ITEMS = 64  # short recordings in a bundle at most: what one crash of a decoder may take with it
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


def plan(config: PlanConfig) -> int:
    """``jobs/plan.py``: write the plan and say what is in it. Returns the exit code."""
    out = Output.open(config.output)
    listing = list_archive(config.input)
    if config.overwrite:
        out.clear()
    made = existing_plan(config, out, listing)
    own_ray = cluster.connect(config.ray_address)
    made = made or make_plan(config, out, listing)
    cpus = cluster.cores() if own_ray else ray.cluster_resources().get("CPU", 1)
    cost = seconds_per_hour(out, config)
    print(plan_text(made, out.uri, None if cost is None else cost * made["hours"] / cpus))
    return 0


def plan_text(made: dict[str, Any], uri: str, decode_s: float | None) -> str:
    """What a person wants to know before a run."""
    kinds = ", ".join(f"{number} {name}" for name, number in made["containers"].items())
    lines = [
        f"{made['hours']:.2f} h of audio in {made['playable']:,} of {made['recordings']:,} recordings "
        f"({kinds or 'none'})",
        f"{made['items']:,} items in {made['bundles']:,} bundles; the plan is in {uri}/plan",
    ]
    if decode_s is not None:
        took = duration(decode_s)
        lines.append(
            f"about {took} to decode and find speech (measured on a sample of it); the models come on top"
        )
    return "\n".join(lines)


def seconds_per_hour(out: Output, config: PlanConfig) -> float | None:
    """Seconds of one core that decoding and voice activity take an hour of audio, tried on one item."""
    from zsfuse_ray.archive.decode_stage import decode_item  # torch, which probing does without

    bundles = out.read_table(BUNDLES).slice(0, 16)
    items = [item for bundle in bundles["items"].to_pylist() for item in bundle]
    for item in sorted(items, key=lambda item: item["start_s"] - item["end_s"]):
        started = time.monotonic()
        try:
            decode_item(item, config.segmentation, config.item_s)
        except (DecodeError, SourceError):
            continue  # the run will say so; the next item may do as a sample
        return 3600 * (time.monotonic() - started) / max(item["end_s"] - item["start_s"], 1e-3)
    return None


def existing_plan(config: PlanConfig, out: Output, listing: pa.Table) -> dict[str, Any] | None:
    """The output folder's plan, None where there is none yet; InputError where it is of something else."""
    plan = out.read_json(PLAN)
    if plan is None:
        out.refuse_strangers()
        return None
    wanted = _identity(config, listing)
    changed = [f"{key} {plan.get(key)} → {wanted[key]}" for key in wanted if plan.get(key) != wanted[key]]
    if changed:
        raise InputError(
            f"{out.uri} holds the plan of another archive ({', '.join(changed)}); "
            "use another --output or --overwrite"
        )
    return plan


def _identity(config: PlanConfig, listing: pa.Table) -> dict[str, Any]:
    archive = {"input": redact(config.input), "item_s": config.item_s, "recordings": len(listing)}
    return archive | {"listing": fingerprint(listing)}


def make_plan(config: PlanConfig, out: Output, listing: pa.Table) -> dict[str, Any]:
    """Probe the listed recordings, cut them into items, and write the plan; returns plan.json."""
    found = _probe_all(listing.select(["recording_id", "uri"]))
    recordings = listing
    for name in PROBED.names[1:]:
        recordings = recordings.append_column(f"{PROBE}{name}", found[name])
    playable = recordings.filter(recordings["probe_reason"].is_null())
    if not len(playable) and set(found["reason"].to_pylist()) == {"not_a_recording"}:
        raise InputError(f"{redact(config.input)}: no audio in it (tried {len(found)} files)")
    tables, seconds, items = [BUNDLE.empty_table()], 0.0, 0
    rows = bundle_items(recordings, config.item_s)
    while piece := list(islice(rows, 10_000)):  # millions of items as Python objects would fill a machine
        lengths = [item["end_s"] - item["start_s"] for bundle in piece for item in bundle["items"]]
        seconds, items = seconds + sum(lengths), items + len(lengths)
        tables.append(pa.Table.from_pylist(piece, schema=BUNDLE))
    bundles = pa.concat_tables(tables)
    containers = playable.group_by("probe_container").aggregate([("recording_id", "count")])
    plan = _identity(config, listing) | {
        "versions": versions(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "playable": len(playable),
        "hours": seconds / 3600,
        "items": items,
        "bundles": len(bundles),
        "containers": dict(sorted(zip(*(c.to_pylist() for c in containers.columns), strict=True))),
    }
    out.write_table(RECORDINGS_PLANNED, recordings)
    out.write_table(BUNDLES, bundles)
    out.write_json(PLAN, plan)  # last: where it is, the tables are whole
    return plan


def _probe_all(uris: pa.Table) -> pa.Table:
    if len(uris) <= PROBES_PER_TASK:
        return probe_recordings(uris)  # sooner done than a task is started
    probed = (
        ray.data.from_arrow(uris)
        .repartition(target_num_rows_per_block=PROBES_PER_TASK)
        .map_batches(probe_recordings, batch_size=None, batch_format="pyarrow")
    )
    refs: Any = probed.to_arrow_refs()  # typed as another ObjectRef than ray.get's
    return pa.concat_tables(ray.get(refs)).sort_by("recording_id")


def probe_recordings(batch: pa.Table) -> pa.Table:
    """Headers of recordings: (recording_id, uri) → PROBED. What cannot be read gets a reason instead."""
    rows = []
    for recording_id, uri in zip(batch["recording_id"].to_pylist(), batch["uri"].to_pylist(), strict=True):
        row: dict[str, Any] = {"recording_id": recording_id}
        try:
            header = probe(uri)
            row |= {name: getattr(header, name) for name in HEADER}
        except (DecodeError, SourceError) as error:
            if is_outage(uri, error):
                raise
            row |= {"reason": error.reason, "message": redact(str(error))}
            if error.reason == "not_audio" and os.path.splitext(uri)[1].lower() not in AUDIO_SUFFIXES:
                row["reason"] = "not_a_recording"
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PROBED)


def bundle_items(recordings: pa.Table, item_s: float) -> Iterator[dict[str, Any]]:
    """Rows of BUNDLE from the planned recordings, in order."""
    bundle: list[dict[str, Any]] = []
    seconds, bundle_id = 0.0, 0
    for item_id, item in enumerate(_items(recordings, item_s)):
        length = item["end_s"] - item["start_s"]
        if bundle and (seconds + length > item_s or len(bundle) == BUNDLE_ITEMS):
            yield {"bundle_id": bundle_id, "items": bundle}
            bundle, seconds, bundle_id = [], 0.0, bundle_id + 1
        bundle.append({"item_id": item_id, **item})
        seconds += length
    if bundle:
        yield {"bundle_id": bundle_id, "items": bundle}


def _items(recordings: pa.Table, item_s: float) -> Iterator[dict[str, Any]]:
    names = ["recording_id", "uri", "start_s", "end_s", "probe_duration_s", "probe_exact", "probe_reason"]
    for batch in recordings.select(names).to_batches(max_chunksize=65536):
        for row in batch.to_pylist():
            if row["probe_reason"] is not None:
                continue
            begin = row["start_s"] or 0.0
            end = row["probe_duration_s"] if row["end_s"] is None else row["end_s"]
            if row["probe_exact"]:
                end = min(end, row["probe_duration_s"])
            count = max(1, math.ceil(round((end - begin) / item_s, 6)))
            for k in range(count):
                yield {
                    "recording_id": row["recording_id"],
                    "uri": row["uri"],
                    "slice_start_s": begin,
                    "slice_end_s": row["end_s"],
                    "start_s": k * item_s,
                    "end_s": min((k + 1) * item_s, max(end - begin, 0.0)),
                    "last": k == count - 1,
                    "exact": row["probe_exact"] or row["end_s"] is not None,
                }
