"""What a run would do, for ``--dry-run``: nothing is written, Ray and the models are not started."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zsfuse_ray.archive.bundles import bundle_items
from zsfuse_ray.archive.console import bytes_text, plural
from zsfuse_ray.archive.current import Folder, look_at
from zsfuse_ray.archive.estimate import encoded_bytes
from zsfuse_ray.archive.listing import own_columns
from zsfuse_ray.archive.passes import ToEncode, begun_passes, lacking
from zsfuse_ray.archive.probing import PROBES_PER_TASK, probe_recordings, with_headers
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.archive.wanted import (
    embed_digest,
    identity,
    repeats_of_table,
    requested,
    score_digest,
    with_normalise,
)
from zsfuse_ray.config.score import RunConfig, ScoreConfig

SAMPLE = PROBES_PER_TASK  # headers that are read; of more recordings, hours and items are estimated


@dataclass(frozen=True)
class Extent:
    """Recordings, hours and items; of_sample: headers that they are estimated from, None if all were read."""

    recordings: int
    hours: float
    items: int
    of_sample: int | None = None


def preview(config: RunConfig) -> str:
    """Lines on what the run with these options would plan, encode and label. InputError as from the run."""
    folder = look_at(config)
    wanted = requested(config, folder.models)
    if _is_done(config, folder, wanted):
        return f"dry run: {folder.out.uri} is complete; there is nothing to do"
    rows = np.sort(np.concatenate([folder.changes.new, folder.changes.changed]))
    new = extent_of(folder.listing.take(pa.array(rows)), config.item_s)
    planned = int(folder.plan.total("playable")) if folder.plan else 0
    hours = new.hours + _hours_to_encode(folder, wanted)
    in_all = new.hours + (folder.plan.total("hours") if folder.plan else 0.0)
    limited = ""
    if config.limit_hours is not None and config.limit_hours < in_all:
        hours = min(hours, config.limit_hours)
        limited = f", limited to the first {config.limit_hours:g} h (--limit-hours)"
    models = ", ".join(f"{key} {one.spec}" for key, one in wanted.items())
    estimated = f", estimated from {new.of_sample} of their headers" if new.of_sample else ""
    lines = [
        "dry run: nothing is written",
        f"plan:   {plural(new.recordings, 'recording')} with {new.hours:.2f} h of audio in "
        f"{plural(new.items, 'item')}{estimated}; {planned:,} are planned already",
        f"encode: {hours:.2f} h of audio by {models}{limited}; {_size(folder, wanted, hours)}",
    ]
    if isinstance(config, ScoreConfig):
        lines.append(f"label:  {planned + new.recordings:,} recordings as {','.join(config.labels)}{limited}")
    return "\n".join(lines)


def extent_of(listing: pa.Table, item_s: float) -> Extent:
    """The extent of recordings that are not planned yet, by at most SAMPLE of their headers."""
    number = len(listing)
    places = np.random.default_rng(0).choice(
        number, min(number, SAMPLE), replace=False
    )  # no pattern of names
    some = listing.take(pa.array(np.sort(places)))
    some = some.add_column(0, "recording_id", pa.array(np.arange(len(some))))
    some = with_headers(some, probe_recordings(some.select(["recording_id", "uri"])))
    items = [
        item
        for bundle in bundle_items(
            some.append_column("plan_part", pa.array(np.zeros(len(some), int))), item_s
        )
        for item in bundle["items"]
    ]
    seconds = sum(item["end_s"] - item["start_s"] for item in items)
    playable = some["probe_reason"].null_count
    more = number / max(len(some), 1)
    whole = len(some) == number
    return Extent(
        round(playable * more),
        seconds / 3600 * more,
        math.ceil(len(items) * more),
        None if whole else len(some),
    )


def _is_done(config: RunConfig, folder: Folder, wanted: dict[str, ToEncode]) -> bool:
    if folder.changes.grows(config.prune):
        return False
    if isinstance(config, ScoreConfig):
        specs = {kind_of(key): one.spec for key, one in wanted.items()}
        given = with_normalise(config, specs, own_columns(folder.listing))
        identities = {kind: identity(spec) for kind, spec in specs.items()}
        return folder.is_current(score_digest(given, identities, folder.increments))
    return folder.is_current(embed_digest(repeats_of_table(wanted, folder.encoded), config.limit_hours))


def _hours_to_encode(folder: Folder, wanted: dict[str, ToEncode]) -> float:
    """Hours of planned audio that a model has not encoded; what a killed run has encoded counts as well."""
    plan = folder.plan
    if plan is None:
        return 0.0
    some = [n for n, increment in enumerate(plan.increments) if increment.bundles]
    needs = {n for numbers, _ in lacking(wanted, folder.encoded, some) for n in numbers}
    needs |= {n for one in begun_passes(wanted, folder.encoded, some) for n in one.increments}
    return sum(plan.increments[n].hours for n in needs)


def _size(folder: Folder, wanted: dict[str, ToEncode], hours: float) -> str:
    known = {key: folder.models[key] for key in wanted if key in folder.models}
    if len(known) < len(wanted):
        size = bytes_text(encoded_bytes(hours))
        return f"encoded/ grows by up to {size} with large models, a fifth of that with the default"
    size = encoded_bytes(hours, known, {key: one.audio_repeats for key, one in wanted.items()})
    return f"encoded/ grows by about {bytes_text(size)}"
