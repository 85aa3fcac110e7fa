"""A growing plan of small real files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.archive.growing_archives import config, content, grow, rows_of, write_wav
from zsfuse_ray.archive import bundles, growth
from zsfuse_ray.archive.layout import PASSES, PLAN, clear, plan_file
from zsfuse_ray.archive.parts import planned_recordings
from zsfuse_ray.archive.plan import open_plan, read_plan
from zsfuse_ray.audio.probe import probe
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output


def test_the_first_plan_contains_everything(archive: Path, folder: Path) -> None:
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


def test_an_unchanged_archive_writes_nothing(archive: Path, folder: Path) -> None:
    grow(config(archive, folder))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _, changes = grow(config(archive, folder))
    assert not changes.grows(True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_ids_continue_and_earlier_increments_are_unchanged(archive: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "PART_RECORDINGS", 2)
    first, _ = grow(config(archive, folder))
    before = content(folder)
    write_wav(archive / "aa.wav", 45.0)
    write_wav(archive / "d.wav", 2.0)
    write_wav(archive / "b.wav", 6.0)  # changed
    (archive / "c.wav").unlink()  # kept in the plan
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
    assert plan.files("bundles", [1, 0]) == [plan_file(n, "bundles") for n in (1, 0)]


def test_removed_recordings_are_kept_until_pruned(archive: Path, folder: Path) -> None:
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
    write_wav(archive / "c.wav", 4.0)  # restored
    back, changes = grow(config(archive, folder))
    assert len(changes.new) == 1
    assert [row["recording_id"] for row in rows_of(back, "recordings")] == [0, 1, 2, 3, 4]
    assert [part.number for part in back.parts()] == [0, 1]


def test_a_plan_can_grow_by_unreadable_files(archive: Path, folder: Path) -> None:
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
def test_a_plan_with_other_options_is_refused(archive: Path, folder: Path, values: dict) -> None:
    grow(config(archive, folder))
    if "input" in values:
        shutil.copytree(archive, archive.parent / "another")
        values = {"input": str(archive.parent / "another")}
    with pytest.raises(InputError, match="holds another run's results") as caught:
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
        InputError, match=r"written by another version; use another --output or --overwrite"
    ) as caught:
        read_plan(config(archive, folder), Output.open(str(folder)))
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_program_is_refused(archive: Path, folder: Path) -> None:
    (folder / "segments").mkdir(parents=True)
    with pytest.raises(InputError, match="exists, but no run wrote it"):
        grow(config(archive, folder))


@pytest.mark.parametrize("writes", range(4))
def test_killed_planning_resumes(
    archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Killed before each of its writes: the folder's claim, two tables, the plan with them."""
    done = []

    def counted(write):
        def dies(*arguments, **options):
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(write(*arguments, **options))

        return dies

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write_table", counted(Output.write_table))
        patch.setattr(Output, "write_tables", counted(Output.write_tables))
        patch.setattr(Output, "write_json", counted(Output.write_json))
        with pytest.raises(KeyboardInterrupt):
            grow(config(archive, folder))
    plan, changes = grow(config(archive, folder))
    assert changes.new.tolist() == [0, 1, 2, 3]
    assert [row["recording_id"] for row in rows_of(plan, "recordings")] == [0, 1, 2, 3]
    assert len(open_plan(plan.out).increments) == 1


def test_a_plan_with_secrets_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its owner can read the addresses that tasks need; other plans stay readable for a team."""
    write_wav(tmp_path / "in" / "a.wav", 2)
    grow(config(tmp_path / "in", tmp_path / "open"))
    assert (tmp_path / "open" / "plan").stat().st_mode & 0o077
    monkeypatch.setattr("zsfuse_ray.archive.probing.probe", lambda uri: probe(str(tmp_path / "in" / "a.wav")))
    (tmp_path / "list.csv").write_text("uri,link\nhttps://h/a.wav?hdnts=hunter2,https://h/?jwt=hunter2\n")
    plan, _ = grow(config(tmp_path / "list.csv", tmp_path / "out"))
    places = [tmp_path / "out" / "plan", *(tmp_path / "out" / "plan").rglob("*.*")]
    assert len(places) == 4
    assert [path for path in places if path.stat().st_mode & 0o077] == []
    assert "hunter2" in rows_of(plan, "recordings")[0]["uri"]
    (row,) = planned_recordings(plan, plan.parts()[0]).to_pylist()
    assert (row["uri"], row["link"]) == ("https://h/a.wav?hdnts=***", "https://h/?jwt=***")
    assert b"hunter2" not in (tmp_path / "out" / "plan" / "plan.json").read_bytes()


def plan_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "plan").rglob("*") if path.is_file())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("state", ["whole", "cut", "empty", "folders", "temporary", "one"])
def test_a_plan_without_its_last_file_is_made_again(
    archive: Path, folder: Path, state: str, overwrite: bool
) -> None:
    """Killed between two of its files, by this version or one that wrote in another order."""
    before, _ = grow(config(archive, folder))
    (folder / PLAN).unlink()
    for path in plan_files(folder):
        content = path.read_bytes()
        if state == "cut":
            path.write_bytes(content[: len(content) // 2])
        if state == "empty":
            path.write_bytes(b"")
        if state in ("folders", "temporary"):
            path.unlink()
        if state == "temporary":
            (path.parent / f".{path.name}.0123abcd.zsfuse.tmp").write_bytes(content[:9])
    if state == "one":
        plan_files(folder)[0].unlink()
    (folder / "plan/plan.json.tmp").write_text('{"versions": {"zs')
    if overwrite:
        clear(Output.open(str(folder)))
    plan, changes = grow(config(archive, folder))
    assert changes.new.tolist() == [0, 1, 2, 3]
    assert rows_of(plan, "recordings") == rows_of(before, "recordings")
    assert [path.name for path in plan_files(folder)] == [
        "bundles.parquet",
        "recordings.parquet",
        "plan.json",
    ]


@pytest.mark.parametrize("name", ["plan/mine.txt", "plan/000/mine.parquet", "plan/000/recordings.parquet"])
def test_another_programs_plan_is_not_touched(archive: Path, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    for command in (lambda: grow(config(archive, folder)), lambda: clear(Output.open(str(folder)))):
        with pytest.raises(InputError, match="plan exists, but no run wrote it"):
            command()
    assert (folder / name).read_text() == "mine"


def test_a_run_whose_plan_was_lost_starts_over_with_overwrite(archive: Path, folder: Path) -> None:
    grow(config(archive, folder))
    out = Output.open(str(folder))
    out.write_json(PASSES, {"versions": {"zsfuse_ray": "0"}})
    (folder / PLAN).unlink()
    with pytest.raises(InputError, match="use another --output or --overwrite"):
        grow(config(archive, folder))
    clear(out)
    assert not list(folder.iterdir())


def test_many_recordings_are_planned_in_increments(tmp_path: Path, monkeypatch) -> None:
    """A killed plan keeps the increments that it has written, and the next command adds the others."""
    for n in range(7):
        write_wav(tmp_path / "in" / f"{n}.wav", 25.0)
    usual, _ = grow(config(tmp_path / "in", tmp_path / "usual"))
    monkeypatch.setattr(growth, "RECORDINGS_AT_ONCE", 3)
    whole, changes = grow(config(tmp_path / "in", tmp_path / "whole"))
    assert [one.recordings for one in whole.increments] == [3, 3, 1]
    assert changes.increments(False) == 3
    names = ("recording_id", "uri", "probe_duration_s")
    found = [[row[name] for name in names] for row in rows_of(whole, "recordings")]
    assert found == [[row[name] for name in names] for row in rows_of(usual, "recordings")]
    items = [[item for row in rows_of(plan, "bundles") for item in row["items"]] for plan in (usual, whole)]
    assert items[0] == items[1]

    real, calls = growth.add_increment, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(growth, "add_increment", killed)
    with pytest.raises(KeyboardInterrupt):
        grow(config(tmp_path / "in", tmp_path / "killed"))
    monkeypatch.setattr(growth, "add_increment", real)
    resumed, changes = grow(config(tmp_path / "in", tmp_path / "killed"))
    assert len(changes.new) == 4
    strip = {"plan_part"}
    assert [{k: v for k, v in row.items() if k not in strip} for row in rows_of(resumed, "recordings")] == [
        {k: v for k, v in row.items() if k not in strip} for row in rows_of(whole, "recordings")
    ]
    assert rows_of(resumed, "bundles") == rows_of(whole, "bundles")
