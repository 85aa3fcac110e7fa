"""Label encoded segments part by part, and sum up the counts."""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zsfuse_ray import __version__
from zsfuse_ray.archive.each import each_part
from zsfuse_ray.archive.layout import LABELLED, PRIOR, RECORDINGS, SEGMENTS, TABLES, part_file
from zsfuse_ray.archive.normalise import summed as summed_groups
from zsfuse_ray.archive.parts import AGAIN, LabelTask, label_part, part_sums, state_name
from zsfuse_ray.archive.plan import Part, Plan
from zsfuse_ray.archive.prior import Sample, fit_prior, part_sample, with_biases
from zsfuse_ray.archive.summaries import run_counts, summed
from zsfuse_ray.archive.whole import is_cut_off
from zsfuse_ray.audio.outages import PASSING
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labelling import Labelling
from zsfuse_ray.method.normalise import Sums
from zsfuse_ray.method.prior import Prior
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.progress import Progress

FEW_PARTS = 4  # labelled faster in this process than Ray starts
T = TypeVar("T")
READERS = 16  # threads that read the counts of parts labelled before


def stale_parts(out: Output, parts: Iterable[Part], digest: str) -> list[Part]:
    """The parts that are not labelled with this digest and their current recordings."""
    out.sweep("", "plan", *TABLES)  # of a killed command
    names = {name.removeprefix(f"{out.root}/") for folder in TABLES for name in out.files(folder)}

    def is_stale(part: Part) -> bool:
        counts = state_name(part, digest)
        if counts not in names or _counts(out, counts) is None:
            return True
        tables = [part_file(table, part.number) for table in (SEGMENTS, RECORDINGS, REJECTS)]
        # embed writes no segments
        return any(is_cut_off(out, out.path(name)) for name in tables if name in names) or bool(
            set(tables[1:]) - names
        )

    with ThreadPoolExecutor(READERS) as readers:
        parts = list(parts)
        return [part for part, stale in zip(parts, readers.map(is_stale, parts), strict=True) if stale]


def _counts(out: Output, name: str) -> dict[str, Any] | None:
    """The counts of a labelled part; None if the file is missing or damaged."""
    content = _state(out, name)
    return content["counts"] if content else None


def _state(out: Output, name: str) -> dict[str, Any] | None:
    try:
        return out.read_json(name)
    except InputError:  # damaged: the part is labelled again
        return None


def recordings_to_try_again(out: Output, plan: Plan | None, run: Mapping[str, Any] | None) -> list[int]:
    """Ids of recordings that failed in a finished run for reasons that may have ended; empty without one."""
    if plan is None or run is None or run.get("status") != "complete":
        return []
    if not set(run["counts"]["rejects"]) & set(PASSING):
        return []
    names = [state_name(part, run["digest"]) for part in plan.parts()]
    with ThreadPoolExecutor(READERS) as readers:
        contents = list(readers.map(partial(_state, out), names))
    return sorted(number for content in contents if content for number in content.get(AGAIN, ()))


def clear_other_tables(out: Output, digest: str) -> None:
    """Delete the tables of a labelling with other options, so that no folder mixes rows of two labellings."""
    then = out.read_json(f"{LABELLED}/labelling.json")
    if then is None or then["digest"] != digest:
        for name in TABLES:
            out.delete(name)
        out.write_json(
            f"{LABELLED}/labelling.json", {"versions": {"zsfuse_ray": __version__}, "digest": digest}
        )


@dataclass(frozen=True)
class Labelled:
    """Results of labelling: sums over all parts for run.json; segments and below, of the parts labelled now.

    prior: the record of `fit_prior`, None without a prior.
    """

    counts: dict[str, Any]
    effective_repetition: dict[str, dict[str, dict[str, int]]]
    prior: dict[str, Any] | None
    segments: int
    task_peak_mb: float  # peak memory of a labelling process
    cpu_s: float  # total of all labelling processes


def label(task: LabelTask, stale: list[Part], own_ray: bool = False) -> Labelled:
    """Label these parts and sum up the counts of all parts. own_ray: as in `end_run`."""
    clear_other_tables(task.out, task.digest)
    if task.normalise == "speaker" and not task.sums_of_parts:
        task = replace(task, sums=_sums_of_speakers(task, own_ray))
    prior = None
    if task.labelling is not None and task.prior is not None:
        prior = _fitted_prior(task, task.labelling, task.prior, own_ray)
        task = replace(task, labelling=with_biases(task.labelling, prior))
    total, peak, cpu_s = {}, 0.0, 0.0
    progress = Progress("labelled", len(stale), "parts")
    for done, (counts, peak_mb, used_s) in enumerate(each_part(_label_one, task, stale, own_ray), start=1):
        total, peak, cpu_s = summed((total, counts)), max(peak, peak_mb), cpu_s + used_s
        progress.update(done)
    progress.end()
    segments = total.get("segments", 0)
    labelled = {part.number for part in stale}
    others = [part for part in task.plan.parts() if part.number not in labelled]
    with ThreadPoolExecutor(READERS) as readers:
        for counts in readers.map(lambda part: _counts(task.out, state_name(part, task.digest)), others):
            total = summed((total, counts or {}))
    return Labelled(run_counts(total), total["effective_repetition"], prior, segments, peak, cpu_s)


def peak_memory_mb() -> float:
    """Peak memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage may report the parent's peak, which a new process inherits
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _label_one(task: LabelTask, part: Part) -> tuple[dict[str, Any], float, float]:
    """Counts of a part, the peak memory of this process in MB, and the CPU seconds of the part."""
    started = time.process_time()
    counts = label_part(task, part)
    return counts, peak_memory_mb(), time.process_time() - started


def _sums_of_speakers(task: LabelTask, own_ray: bool) -> Sums | None:
    """The sums of every speaker's vectors over all parts: a speaker may be in several."""
    total = None
    for found in _each_of_all(part_sums, "summed", task, own_ray):
        total = summed_groups((total, found))
    return total


def _fitted_prior(task: LabelTask, labelling: Labelling, prior: Prior, own_ray: bool) -> dict[str, Any]:
    """The record of `fit_prior` on a sample of all parts: read if an earlier command has written it.

    A resumed run so labels its parts with the biases of those before, without a second pass.
    """
    content = task.out.read_json(PRIOR)  # of this digest: those of others are deleted
    if content is None:
        samples = [one for one in _each_of_all(part_sample, "sampled", task, own_ray) if one is not None]
        record = fit_prior(labelling, prior, Sample.joined(samples) if samples else None)
        content = {"versions": {"zsfuse_ray": __version__}, "prior": record}
        task.out.write_json(PRIOR, content)
    return content["prior"]


def _each_of_all(
    function: Callable[[LabelTask, Part], T], done_is: str, task: LabelTask, own_ray: bool
) -> Iterator[T]:
    """Results for all parts of the plan as they finish, with their progress. done_is: "summed" …"""
    parts = task.plan.parts()
    progress = Progress(done_is, len(parts), "parts")
    for done, found in enumerate(each_part(function, task, parts, own_ray), start=1):
        yield found
        progress.update(done)
    progress.end()
