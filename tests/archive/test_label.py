"""Labelling part by part: which parts are labelled again."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from tests.archive.encoded_folders import BOTH, LABELLING, Small
from zsfuse_ray.archive import label as module
from zsfuse_ray.archive.each import each_part
from zsfuse_ray.archive.label import Labelled, label, peak_memory_mb, stale_parts
from zsfuse_ray.archive.layout import LABELLED, RECORDINGS, SEGMENTS, TABLES, part_file
from zsfuse_ray.archive.parts import LabelTask, label_part, state_name
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.method.prior import Prior


@pytest.fixture
def task(small: Small) -> LabelTask:
    keys, wanted = {"alm": "alm", "specialist": "specialist"}, {"alm": (1, 2), "specialist": ()}
    return LabelTask(small.plan, small.encode(BOTH), small.out, LABELLING, keys, wanted, {}, "one")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the parts as they are labelled."""
    numbers: list[int] = []

    def counted(task: LabelTask, part: Part) -> dict:
        numbers.append(part.number)
        return label_part(task, part)

    monkeypatch.setattr(module, "label_part", counted)
    return numbers


def stale(task: LabelTask) -> list[Part]:
    return stale_parts(task.out, task.plan.parts(), task.digest)


def sums(made: Labelled) -> dict:
    """Rounded sums over parts, whose order under Ray varies."""
    rounded = {name: round(share, 9) for name, share in made.counts["label_shares"].items()}
    hours = {name: round(made.counts[name], 9) for name in ("audio_hours", "speech_hours")}
    return made.counts | hours | {"label_shares": rounded, "repetition": made.effective_repetition}


def content(task: LabelTask) -> dict[str, bytes]:
    return {
        path: task.out.fs.open_input_file(path).read()
        for name in TABLES
        for path in sorted(task.out.files(name))
    }


def test_every_part_is_labelled_once(task: LabelTask, calls: list[int]) -> None:
    made = label(task, stale(task))
    assert calls == [0, 1, 2]
    rows = task.out.read_table(SEGMENTS)
    assert made.segments == made.counts["segments"] == len(rows) > 5
    assert made.counts["recordings"] == 5
    assert len(task.out.read_table(RECORDINGS)) == made.counts["recordings"] - made.counts["unreadable"]
    assert sum(made.counts["label_shares"].values()) == pytest.approx(1)
    before = content(task)
    assert stale(task) == []
    assert sums(label(task, stale(task))) == sums(made)
    assert label(task, stale(task)).segments == 0
    assert calls == [0, 1, 2]
    assert content(task) == before


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_labelling_resumes(task: LabelTask, calls: list[int], monkeypatch, killed: int) -> None:
    """A part whose counts were not written is labelled again, earlier ones are not."""
    made = label(task, stale(task))
    before = content(task)
    for name in TABLES:
        task.out.delete(name)
    calls.clear()
    counted = module.label_part

    def dies(task: LabelTask, part: Part) -> dict:
        counts = counted(task, part)
        if part.number == killed:
            task.out.delete(state_name(part, task.digest))
            raise KeyboardInterrupt
        return counts

    monkeypatch.setattr(module, "label_part", dies)
    with pytest.raises(KeyboardInterrupt):
        label(task, stale(task))
    monkeypatch.setattr(module, "label_part", counted)
    assert [part.number for part in stale(task)] == list(range(killed, 3))
    assert sums(label(task, stale(task))) == sums(made)
    assert calls == [*range(killed + 1), *range(killed, 3)]
    assert content(task) == before


def test_other_options_delete_the_tables_before_anything_is_written(task: LabelTask, monkeypatch) -> None:
    """A folder never mixes rows of two labellings."""
    label(task, stale(task))
    task.out.write_bytes(f"{SEGMENTS}/part-000099.parquet", b"of an archive that was larger")
    other = replace(task, digest="two", labelling=replace(LABELLING, weight=1.0))
    assert [part.number for part in stale(other)] == [0, 1, 2]

    def check(task: LabelTask, part: Part) -> dict:
        assert not task.out.exists(part_file(SEGMENTS, part.number))
        assert len(task.out.files(SEGMENTS)) == part.number
        return label_part(task, part)

    monkeypatch.setattr(module, "label_part", check)
    label(other, stale(other))
    assert len(task.out.files(SEGMENTS)) == 3
    assert len(task.out.files(LABELLED)) == 4  # and labelling.json
    monkeypatch.setattr(module, "label_part", label_part)
    assert [part.number for part in stale(task)] == [0, 1, 2]


def test_tables_of_unknown_options_are_deleted(task: LabelTask) -> None:
    """As after a command that died before it wrote labelling.json."""
    task.out.write_bytes(f"{SEGMENTS}/part-000099.parquet", b"of unknown options")
    label(task, stale(task))
    assert len(task.out.files(SEGMENTS)) == 3


def test_a_part_is_labelled_again_after_a_recording_is_dropped(task: LabelTask, calls: list[int]) -> None:
    label(task, stale(task))
    calls.clear()
    pruned = replace(task, plan=replace(task.plan, dropped=np.array([2])))
    made = label(pruned, stale(pruned))
    assert calls == [1]
    assert made.counts["recordings"] == 4
    assert "no_speech" not in made.counts["rejects"]


@pytest.fixture
def own_ray() -> Iterator[None]:
    assert not ray.is_initialized()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def test_ray_tasks_write_the_same_bytes(task: LabelTask, request: pytest.FixtureRequest) -> None:
    task = replace(task, prior=Prior(np.array([0.5, 0.2, 0.3])))
    made = label(task, stale(task))
    before = content(task)
    for name in TABLES:
        task.out.delete(name)
    request.getfixturevalue("own_ray")
    again = label(task, stale(task))
    assert (sums(again), again.segments, again.prior) == (sums(made), made.segments, made.prior)
    assert content(task) == before


def test_peak_memory_excludes_the_parent_process() -> None:
    """A child of a larger process reports only its own memory."""
    code = "from zsfuse_ray.archive.label import peak_memory_mb; print(peak_memory_mb())"
    ballast = np.ones(125_000_000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_memory_mb() > ballast.nbytes / 1e6
    assert 50 < float(done.stdout) < 800


def test_results_come_in_the_order_of_the_parts(task: LabelTask, own_ray: None) -> None:
    """Sums of floats depend on it; the first part takes longest."""
    parts = [replace(task.plan.parts()[0], number=number) for number in range(8)]

    def slow(_: LabelTask, part: Part) -> int:
        time.sleep(0.5 / (1 + part.number))
        return part.number

    assert list(each_part(slow, task, parts, own_ray=True)) == list(range(8))


@pytest.mark.parametrize("name", [SEGMENTS, RECORDINGS, "rejects", LABELLED])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-5]])
def test_a_part_with_a_damaged_file_is_labelled_again(task: LabelTask, name: str, damage) -> None:
    label(task, stale(task))
    before = content(task)
    path = next(path for path in before if f"/{name}/part-000001" in path)
    Path(path).write_bytes(damage(before[path]))
    left = Path(path).parent / f".{Path(path).name}.0123abcd.zsfuse.tmp"
    left.write_bytes(b"PAR1")
    assert [part.number for part in stale(task)] == [1]
    label(task, stale(task))
    assert content(task) == before
