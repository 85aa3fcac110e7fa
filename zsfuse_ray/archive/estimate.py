"""Estimates of a run: seconds of decoding and of the models, bytes of encoded/."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.room import where_there_is_room
from zsfuse_ray.audio.isolated import warm_up
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.score import ArchiveOptions, PlanConfig
from zsfuse_ray.stores import retried

if TYPE_CHECKING:
    from zsfuse_ray.archive.measure import Measured

SEGMENT_S = 5.5  # seconds of audio per segment: typical of podcasts with segments of up to 10 s
BYTES_A_SEGMENT = 60  # its place in the recording
# Bytes per segment of large models, if the models are unknown: 1024 values per embedding and per vector.
LARGE_MODELS = 2 * (1024 + 1024)


def seconds_per_hour(plan: Plan, config: ArchiveOptions) -> float | None:
    """Core seconds per hour of audio of decoding and voice activity detection, measured on one item."""
    from zsfuse_ray.archive.stages.decode import try_item  # lazy: imports torch

    warm_up()
    for item in _some_items(plan):
        started = time.monotonic()
        try:
            outcome, _, _ = try_item(item, config.segmentation, config.item_s)
        except SourceError:
            continue  # the run will report it; try the next item
        if outcome.get("reason") not in (None, "truncated"):
            continue
        return 3600 * (time.monotonic() - started) / max(item["end_s"] - item["start_s"], 1e-3)
    return None


def models_on_sample(
    plan: Plan, config: PlanConfig, wanted: Mapping[str, ToEncode], num_gpus: float
) -> "Measured | None":
    """Speed of the models of a run, measured on a node that can hold them; None if the sample has no speech.

    wanted: what each is to compute; num_gpus: of an actor with these models, 0 on CPUs.
    """
    from zsfuse_ray.archive.measure import measure  # lazy: imports torch

    return where_there_is_room(measure, _some_items(plan), config, wanted, num_gpus > 0, num_gpus=num_gpus)


def _some_items(plan: Plan) -> list[dict[str, Any]]:
    """Items of the first bundles: the longest of each recording in descending order, then all others."""
    some = [n for n, increment in enumerate(plan.increments) if increment.bundles]
    if not some:
        return []
    bundles = retried(lambda: plan.out.dataset(plan_file(some[0], "bundles")).head(16), plan.out.fs)
    items = [item for bundle in bundles["items"].to_pylist() for item in bundle]
    items.sort(key=lambda item: item["start_s"] - item["end_s"])
    longest: dict[int, dict[str, Any]] = {}
    for item in items:
        longest.setdefault(item["recording_id"], item)
    firsts = {item["item_id"] for item in longest.values()}
    return [*longest.values(), *(item for item in items if item["item_id"] not in firsts)]


def encoded_bytes(
    hours: float,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    repeats: Mapping[str, Iterable[int]] | None = None,
) -> float:
    """Approximate size of encoded/ with these models and audio repeats; by default with large models."""
    if models is None:
        values = LARGE_MODELS
    else:
        values = sum(
            2 * facts["dim"] * len(set((repeats or {}).get(key, (1,))))
            if "dim" in facts
            else 2 * (len(facts["labels"]) + (facts["vector_dim"] or 0))
            for key, facts in models.items()
        )
    return 3600 * hours / SEGMENT_S * (values + BYTES_A_SEGMENT)
