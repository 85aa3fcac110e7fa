"""Encode what is missing in encoded/: passes over the audio, one after the other."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray

from zsfuse_ray.archive.limit import as_far
from zsfuse_ray.archive.passes import Encoded, Pass, ToEncode, add_pass, begun_passes, lacking
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.settle import settle
from zsfuse_ray.archive.wanted import encoding_options, to_encode
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.errors import Stopped
from zsfuse_ray.runs import cluster, tally
from zsfuse_ray.runs.progress import Progress, watched

MOST_TRIES = 3  # passes until every bundle is in a whole file


@dataclass(frozen=True)
class Spent:
    """Cost of encoding: seconds of audio, wall-clock seconds, number of devices and kind ("gpu" or "cpu").

    halved: batches that did not fit into the memory of a GPU.
    """

    audio_s: float = 0.0
    wall_s: float = 0.0
    devices: float = 1.0
    device: str = "cpu"
    halved: int = 0


def encode_lacking(
    config: RunConfig,
    plan: Plan,
    encoded: Encoded | None,
    wanted: Mapping[str, ToEncode],
    facts: Mapping[str, dict[str, Any]],
    increments: Iterable[int],
    own_ray: bool,
) -> tuple[Encoded, Spent]:
    """Encode what is wanted and missing for these increments; first resume passes of earlier commands.

    Where the plan is cut, the passes stay incomplete, but are complete for it in the record that is returned.

    facts: of all models that are wanted or already in encoded/.
    """
    if encoded is None:
        encoded = Encoded(plan.out, plan.id, encoding_options(config), {}, ())
    encoded = replace(encoded, models={**encoded.models, **facts})
    some = [n for n in increments if plan.increments[n].bundles]
    specs = {key: one.spec for key, one in wanted.items()}
    spent = Spent()
    for one in begun_passes(wanted, encoded, some):
        encoded, spent = _encode(
            config, plan, encoded, one, to_encode(one, encoded.models, specs), own_ray, spent
        )
    for numbers, models in lacking(wanted, encoded, some):
        encoded, one = add_pass(encoded, numbers, models)
        encoded, spent = _encode(
            config, plan, encoded, one, to_encode(one, encoded.models, specs), own_ray, spent
        )
    if not encoded.passes:  # no recording could be opened: record that
        encoded.write()
    return as_far(encoded, plan), spent


def _encode(
    config: RunConfig,
    plan: Plan,
    encoded: Encoded,
    one: Pass,
    tasks: Mapping[str, ToEncode],
    own_ray: bool,
    spent: Spent,
) -> tuple[Encoded, Spent]:
    from zsfuse_ray.archive.stream import run_pass  # lazy: imports torch, which labelling does not need

    pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes(), tuple(tasks))
    started = time.monotonic()
    counts = tally.start_tally()
    hours = sum(plan.increments[n].hours for n in one.increments)
    bundles = sum(plan.increments[n].bundles for n in one.increments)
    done = settle(plan, one, own_ray)
    earlier = hours * done / max(1, bundles)
    cores = cluster.cores() if own_ray else None
    tries = 0
    while done < bundles:
        if tries == MOST_TRIES:
            raise Stopped(f"{bundles - done} of {bundles} bundles are missing in {plan.out.uri}/{one.path}")
        with watched(
            Progress("encoded", hours, "h", earlier),
            lambda: earlier + tally.sums(counts)["planned_s"] / 3600,
        ):
            run_pass(config, plan.out, plan, one, tasks, pools, cores, counts)
        done, tries = settle(plan, one, own_ray), tries + 1
    if not set(one.increments) & set(plan.cut):
        encoded = encoded.with_pass(replace(one, complete=True))
    for name in (one.checkpoint, one.attempts, one.limited):
        plan.out.delete(name)
    sums = tally.sums(counts)
    return encoded, Spent(
        spent.audio_s + sums["audio_s"],
        spent.wall_s + time.monotonic() - started,
        sum(pool.min_size * (pool.num_gpus or 1) for pool in pools),
        "gpu" if pools[0].num_gpus else "cpu",
        spent.halved + int(sums[tally.HALVED]),
    )
