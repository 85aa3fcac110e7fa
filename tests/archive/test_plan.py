"""A plan that grows: over real small files, and compared by a plain dictionary."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.archive import bundles, probing
from zsfuse_ray.archive.layout import PLAN, plan_file
from zsfuse_ray.archive.listing import KEY, VERSION, list_archive
from zsfuse_ray.archive.plan import Changes, Plan, compare, extend_plan, open_plan, read_plan
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output

RATE = 8000


def write_wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * RATE), np.int16), RATE)


def config(archive: Path, folder: Path, **values) -> PlanConfig:
    return PlanConfig(**({"input": str(archive), "output": str(folder), "item_s": 20.0} | values))


def grow(asked: PlanConfig) -> tuple[Plan, Changes]:
    """What ``jobs/plan.py`` does with an archive; the plan after it and what had changed."""
    out = Output.open(asked.output)
    listing = list_archive(asked.input)
    there = read_plan(asked, out)
    changes = compare(there, listing)
    if there is not None and not changes.grows(asked.prune):
        return there, changes
    return extend_plan(asked, out, listing, there, changes), changes


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the plan's increments."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert found
    return found


def rows_of(plan: Plan, name: str) -> list[dict]:
    return [
        row
        for n in range(len(plan.increments))
        for row in plan.out.read_table(plan_file(n, name)).to_pylist()
    ]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name, seconds in (("a", 50.0), ("b", 3.0), ("c", 4.0)):
        write_wav(tmp_path / f"archive/{name}.wav", seconds)
    (tmp_path / "archive/notes.wav").write_text("To whom it may concern, " * 100)
    return tmp_path / "archive"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_first_plan_holds_everything(archive: Path, folder: Path) -> None:
    plan, changes = grow(config(archive, folder))
    assert changes.new.tolist() == [0, 1, 2, 3]
    assert not len(changes.changed) + len(changes.gone) + len(changes.outdated)
    (increment,) = plan.increments
    assert (increment.recordings, increment.playable, increment.items, increment.bundles) == (4, 3, 5, 3)
    assert (plan.total("hours"), plan.containers) == (pytest.approx(57 / 3600), {"wav": 3})
    recordings = rows_of(plan, "recordings")
    assert [row["recording_id"] for row in recordings] == [0, 1, 2, 3]
    assert [Path(row["uri"]).name for row in recordings] == ["a.wav", "b.wav", "c.wav", "notes.wav"]
    assert [row["probe_reason"] for row in recordings] == [None, None, None, "not_audio"]
    assert [row["probe_duration_s"] for row in recordings] == [50.0, 3.0, 4.0, None]
    (part,) = plan.parts()
    assert (part.number, part.increment, part.first, part.end, part.dropped) == (0, 0, 0, 4, ())
    again = open_plan(plan.out)
    assert (again.id, again.identity, again.columns, again.increments) == (
        plan.id,
        plan.identity,
        plan.columns,
        plan.increments,
    )


def test_the_same_archive_changes_nothing(archive: Path, folder: Path) -> None:
    grow(config(archive, folder))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _, changes = grow(config(archive, folder))
    assert not changes.grows(True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_ids_go_on_and_what_was_planned_stays_to_the_byte(archive: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "PART_RECORDINGS", 2)
    first, _ = grow(config(archive, folder))
    before = content(folder)
    write_wav(archive / "aa.wav", 45.0)
    write_wav(archive / "d.wav", 2.0)
    write_wav(archive / "b.wav", 6.0)  # changed
    (archive / "c.wav").unlink()  # gone, and kept
    plan, changes = grow(config(archive, folder))
    assert (len(changes.new), len(changes.changed)) == (2, 1)
    assert (changes.outdated.tolist(), changes.gone.tolist()) == ([1], [2])
    now = content(folder)
    assert {name: now[name] for name in before} == before
    assert plan.increments[0] == first.increments[0]
    recordings, rows = rows_of(plan, "recordings"), rows_of(plan, "bundles")
    assert [row["recording_id"] for row in recordings] == list(range(7))
    assert [Path(row["uri"]).name for row in recordings[4:]] == ["aa.wav", "b.wav", "d.wav"]
    assert [row["bundle_id"] for row in rows] == list(range(len(rows)))
    items = [item for row in rows for item in row["items"]]
    assert [item["item_id"] for item in items] == list(range(len(items)))
    assert plan.dropped.tolist() == [1]
    parts = plan.parts()
    assert [(p.number, p.increment, p.first, p.end, p.dropped) for p in parts] == [
        (0, 0, 0, 2, (1,)),
        (1, 0, 2, 4, ()),
        (2, 1, 4, 6, ()),
        (3, 1, 6, 7, ()),
    ]
    part_of = {row["recording_id"]: row["plan_part"] for row in recordings}
    assert part_of == {number: part.number for part in parts for number in range(part.first, part.end)}
    for row in rows:
        assert {part_of[item["recording_id"]] for item in row["items"]} == {row["part"]}
    assert plan.total("items") == len(items)
    opened = open_plan(plan.out)
    assert (opened.dropped.tolist(), opened.parts()) == ([1], parts)
    assert plan.files("bundles", [1, 0]) == [plan.out.path(plan_file(n, "bundles")) for n in (1, 0)]


def test_what_is_gone_is_kept_until_it_is_pruned(archive: Path, folder: Path) -> None:
    first, _ = grow(config(archive, folder))
    (archive / "c.wav").unlink()
    kept, changes = grow(config(archive, folder))
    assert (changes.gone.tolist(), len(kept.increments), kept.dropped.tolist()) == ([2], 1, [])
    before = content(folder)
    pruned, _ = grow(config(archive, folder, prune=True))
    assert pruned.dropped.tolist() == open_plan(pruned.out).dropped.tolist() == [2]
    now = content(folder)
    assert {name: now[name] for name in before} == before
    assert (pruned.increments[1].recordings, pruned.increments[1].bundles) == (0, 0)
    assert pruned.files("bundles", range(2)) == first.files("bundles", [0])
    (part,) = pruned.parts()
    assert part == replace(first.parts()[0], dropped=(2,))
    assert not grow(config(archive, folder, prune=True))[1].grows(True)
    write_wav(archive / "c.wav", 4.0)  # it comes back
    back, changes = grow(config(archive, folder))
    assert len(changes.new) == 1
    assert [row["recording_id"] for row in rows_of(back, "recordings")] == [0, 1, 2, 3, 4]
    assert [part.number for part in back.parts()] == [0, 1]


def test_a_plan_may_grow_by_what_cannot_be_opened(archive: Path, folder: Path) -> None:
    grow(config(archive, folder))
    (archive / "more.dat").write_text("nothing")
    plan, _ = grow(config(archive, folder))
    assert (plan.increments[1].recordings, plan.increments[1].bundles) == (1, 0)
    assert plan.files("bundles", range(2)) == plan.files("bundles", [0])
    assert [part.number for part in plan.parts()] == [0, 1]


def test_an_archive_without_audio_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a.dat").write_text("To whom it may concern")
    with pytest.raises(InputError, match=r"no audio in it \(tried 1 files\)"):
        grow(config(tmp_path / "archive", folder))
    assert not (folder / "plan").exists()


@pytest.mark.parametrize("values", [{"item_s": 40.0}, {"input": "another"}])
def test_a_plan_of_something_else_is_refused(archive: Path, folder: Path, values: dict) -> None:
    grow(config(archive, folder))
    if "input" in values:
        shutil.copytree(archive, archive.parent / "another")
        values = {"input": str(archive.parent / "another")}
    with pytest.raises(InputError, match="holds the plan of another archive") as caught:
        grow(config(archive, folder, **values))
    assert "\n" not in str(caught.value)
    (name,) = values
    assert f"{name} " in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: {
            "versions": plan["versions"],
            "input": "x",
            "item_s": 20.0,
            "recordings": 3,
            "hours": 1,
        },
        lambda plan: {name: value for name, value in plan.items() if name != "id"},
        lambda plan: plan | {"increments": [{"bundles": 3}]},
        lambda plan: plan | {"increments": 5},
    ],
)
def test_a_plan_of_another_version_is_refused(archive: Path, folder: Path, change) -> None:
    grow(config(archive, folder))
    plan = json.loads((folder / PLAN).read_text())
    (folder / PLAN).write_text(json.dumps(change(plan)))
    with pytest.raises(
        InputError, match=r"not of this version; use another --output or --overwrite"
    ) as caught:
        read_plan(config(archive, folder), Output.open(str(folder)))
    assert "\n" not in str(caught.value)


def test_a_folder_of_someone_else_is_refused(archive: Path, folder: Path) -> None:
    (folder / "segments").mkdir(parents=True)
    with pytest.raises(InputError, match="not of a zsfuse_ray run"):
        grow(config(archive, folder))


def write_manifest(folder: Path, columns: dict) -> Path:
    path = folder / "list.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


A, B = "archive/a.wav", "archive/b.wav"


def test_columns_of_a_manifest_come_along(archive: Path, folder: Path) -> None:
    path = write_manifest(archive.parent, {"uri": [A, A], "start_s": [0, 5], "end_s": [5, 9], "take": [3, 4]})
    plan, _ = grow(config(path, folder))
    assert plan.columns == {"take": "int64"}
    assert [row["take"] for row in rows_of(plan, "recordings")] == [3, 4]
    path = write_manifest(archive.parent, {"uri": [A, A], "start_s": [0, 5], "end_s": [5, 9], "take": [3, 7]})
    plan, changes = grow(config(path, folder))
    assert (len(changes.new), changes.outdated.tolist()) == (0, [1])
    assert [row["take"] for row in rows_of(plan, "recordings")] == [3, 4, 7]


@pytest.mark.parametrize(
    ("columns", "differs"),
    [({}, "take"), ({"take": [3, 4], "emotion": ["x", "y"]}, "emotion"), ({"tune": [3, 4]}, "take, tune")],
)
def test_other_columns_are_refused(archive: Path, folder: Path, columns: dict, differs: str) -> None:
    path = write_manifest(archive.parent, {"uri": [A], "take": [3]})
    grow(config(path, folder))
    before = content(folder)
    write_manifest(archive.parent, {"uri": [A, B], **columns})
    with pytest.raises(InputError) as caught:
        grow(config(path, folder))
    assert f"other columns than when it was planned ({differs})" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("first", "later", "kept"),
    [
        ([1.5], [2, 3], [1.5, 2.0, 3.0]),
        (["x"], [3, 4], ["x", "3", "4"]),
        ([3], [3, 4.5], None),
        ([3], [3, "x"], None),
    ],
)
def test_a_column_of_another_type_is_converted_or_refused(
    archive: Path, folder: Path, first: list, later: list, kept: list | None
) -> None:
    path = write_manifest(archive.parent, {"uri": [A], "take": first})
    grow(config(path, folder))
    write_manifest(archive.parent, {"uri": [A, B], "take": later})
    if kept is None:
        with pytest.raises(InputError, match=r"column take holds .* when it was planned") as caught:
            grow(config(path, folder))
        assert "\n" not in str(caught.value)
        return
    plan, _ = grow(config(path, folder))
    assert [row["take"] for row in rows_of(plan, "recordings")] == kept
    schemas = [plan.out.dataset(plan_file(n, "recordings")).schema for n in (0, 1)]
    assert schemas[1].equals(schemas[0])


def listing_of(archive: dict[int, int]) -> pa.Table:
    keys, versions = list(archive), list(archive.values())
    columns = {"uri": [f"{key}.wav" for key in keys], "start_s": pa.nulls(len(keys), pa.float64())}
    columns |= {"end_s": pa.nulls(len(keys), pa.float64()), "size": pa.nulls(len(keys), pa.int64())}
    return pa.table(columns | {KEY: pa.array(keys, pa.int64()), VERSION: pa.array(versions, pa.int64())})


def no_files(uris: pa.Table) -> pa.Table:
    rows = [{"recording_id": n, "duration_s": 3.0, "exact": True} for n in uris["recording_id"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=probing.PROBED)


states = st.dictionaries(st.integers(-4, 4), st.integers(0, 2), max_size=7)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(states, st.booleans()), min_size=1, max_size=5))
def test_changes_are_those_of_a_dictionary(steps: list[tuple[dict[int, int], bool]]) -> None:
    """Archives with recordings added, changed, gone and back, pruned or not."""
    planned: dict[int, tuple[int, int]] = {}  # key → version, recording id
    dropped: set[int] = set()
    last = 0
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("zsfuse_ray.archive.plan.probe_all", no_files)
        out, plan = Output.open(place), None
        for archive, prune in steps:
            listing = listing_of(archive)
            changes = compare(plan, listing)
            keys = list(archive)
            assert [keys[n] for n in changes.new] == [key for key in keys if key not in planned]
            changed = [key for key in keys if key in planned and planned[key][0] != archive[key]]
            assert [keys[n] for n in changes.changed] == changed
            assert changes.outdated.tolist() == [planned[key][1] for key in changed]
            gone = [key for key in planned if key not in archive]
            assert sorted(changes.gone.tolist()) == sorted(planned[key][1] for key in gone)
            if plan is not None and not changes.grows(prune):
                assert archive == {key: planned[key][0] for key in archive}
                continue
            plan = extend_plan(PlanConfig(input="x", output=place, prune=prune), out, listing, plan, changes)
            dropped |= {planned[key][1] for key in changed + (gone if prune else [])}
            for key in gone if prune else []:
                del planned[key]
            for key in keys:
                if key not in planned or planned[key][0] != archive[key]:
                    planned[key] = (archive[key], last)
                    last += 1
            assert set(plan.dropped.tolist()) == dropped
            again = open_plan(out)
            assert again.parts() == plan.parts()
            assert [number for part in again.parts() for number in range(part.first, part.end)] == list(
                range(last)
            )
            assert {number for part in again.parts() for number in part.dropped} == dropped
