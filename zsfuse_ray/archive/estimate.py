"""What a run will take: seconds of decoding and of the models, bytes of encoded/."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.room import where_there_is_room
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.score import ArchiveOptions, PlanConfig

if TYPE_CHECKING:
    from zsfuse_ray.archive.measure import Measured

SEGMENT_S = 5.5  # of audio for a segment: what podcasts come to with segments of up to 10 s
BYTES_A_SEGMENT = 60  # where it lies
# Of large models, where it is not known yet which: 1024 values of an embedding, and of a vector.
LARGE_MODELS = 2 * (1024 + 1024)


def seconds_per_hour(plan: Plan, config: ArchiveOptions) -> float | None:
    """Seconds of one core that decoding and voice activity take an hour of audio, tried on one item."""
    from zsfuse_ray.archive.stages.decode import decode_item  # torch, which probing does without

    for item in _some_items(plan):
        started = time.monotonic()
        try:
            decode_item(item, config.segmentation, config.item_s)
        except (DecodeError, SourceError):
            continue  # the run will report it; the next item may do as a sample
        return 3600 * (time.monotonic() - started) / max(item["end_s"] - item["start_s"], 1e-3)
    return None


def models_on_sample(
    plan: Plan, config: PlanConfig, wanted: Mapping[str, ToEncode], num_gpus: float
) -> "Measured | None":
    """What the models of a run take, tried where it would hold them; None where the sample has no speech.

    wanted: what each is to compute; num_gpus: of an actor that holds them, 0 for one on CPUs.
    """
    from zsfuse_ray.archive.measure import measure  # torch, which probing does without

    return where_there_is_room(measure, _some_items(plan), config, wanted, num_gpus > 0, num_gpus=num_gpus)


def _some_items(plan: Plan) -> list[dict[str, Any]]:
    """Items of the first bundles: first the longest of each recording, the longest ahead, then all others."""
    some = [n for n, increment in enumerate(plan.increments) if increment.bundles]
    if not some:
        return []
    bundles = plan.out.dataset(plan_file(some[0], "bundles")).head(16)
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
    """About how large encoded/ gets, with these models and audio repeats; without, with large models."""
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
