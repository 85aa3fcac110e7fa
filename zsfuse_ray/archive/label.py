"""Label what is encoded, part by part, and sum up the counts."""

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from zsfuse_ray import __version__
from zsfuse_ray.archive.layout import LABELLED, TABLES
from zsfuse_ray.archive.parts import LabelTask, label_part, state_name
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.summaries import run_counts, summed
from zsfuse_ray.runs.folder import Output

FEW_PARTS = 4  # sooner labelled here than Ray is started
SAY_EVERY_S = 15.0
READERS = 16  # of the counts of parts that were labelled before


def stale_parts(out: Output, parts: Iterable[Part], digest: str) -> list[Part]:
    """The parts that are not labelled as `digest` says, with the recordings they have now."""
    names = {name.rsplit("/", 1)[-1] for name in out.files(LABELLED)}
    return [part for part in parts if state_name(part, digest).rsplit("/", 1)[-1] not in names]


def clear_other_tables(out: Output, digest: str) -> None:
    """Delete the tables of a labelling with other options: no folder ever holds rows of two of them."""
    then = out.read_json(f"{LABELLED}/labelling.json")
    if then is None or then["digest"] != digest:
        for name in TABLES:
            out.delete(name)
        out.write_json(
            f"{LABELLED}/labelling.json", {"versions": {"zsfuse_ray": __version__}, "digest": digest}
        )


def label(task: LabelTask, stale: list[Part]) -> tuple[dict[str, Any], int]:
    """Label these parts; returns the sums over all parts for run.json, and the segments labelled now."""
    clear_other_tables(task.out, task.digest)
    of_part = dict(_label_all(task, stale))
    others = [part for part in task.plan.parts() if part.number not in of_part]
    with ThreadPoolExecutor(READERS) as readers:
        known = readers.map(lambda part: task.out.read_json(state_name(part, task.digest)), others)
        before = summed(content["counts"] for content in known if content)
    total = summed([before, *of_part.values()])
    made = {"counts": run_counts(total), "effective_repetition": total["effective_repetition"]}
    return made, sum(counts["segments"] for counts in of_part.values())


def _label_all(task: LabelTask, stale: list[Part]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and counts of each part as it is done: by Ray tasks where Ray runs, else here."""
    last, segments = time.monotonic(), 0
    for done, (part, counts) in enumerate(_done(task, stale), start=1):
        segments += counts["segments"]
        if time.monotonic() - last >= SAY_EVERY_S:
            last = time.monotonic()
            print(
                f"labelled {done:,} of {len(stale):,} parts, {segments:,} segments",
                file=sys.stderr,
                flush=True,
            )
        yield part, counts


def _done(task: LabelTask, stale: list[Part]) -> Iterator[tuple[int, dict[str, Any]]]:
    if not ray.is_initialized() or len(stale) <= 1:
        for part in stale:
            yield part.number, label_part(task, part)
        return
    work, shared = ray.remote(num_cpus=1)(label_part), ray.put(task)
    waiting = list(reversed(stale))
    running: dict[Any, int] = {}
    at_once = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    while waiting or running:
        while waiting and len(running) < at_once:
            part = waiting.pop()
            running[work.remote(shared, part)] = part.number
        ready, _ = ray.wait(list(running))
        for one in ready:
            yield running.pop(one), ray.get(one)
