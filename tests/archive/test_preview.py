"""What --dry-run prints, and that it leaves no trace."""

from pathlib import Path

import pytest

from tests.archive.growing_archives import config, grow, write_wav
from zsfuse_ray.archive import preview as module
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.preview import extent_of, preview
from zsfuse_ray.cli import main
from zsfuse_ray.config.options import build
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError

WITH_TABLE = {"embeddings": "table", "output": "out"}


def options(tmp_path: Path, **values) -> ScoreConfig:
    given = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "item_s": 20.0, "dry_run": True}
    return ScoreConfig(**given | values)


def test_a_new_archive_is_described_and_nothing_written(tmp_path: Path, capsys) -> None:
    for n, seconds in enumerate((30.0, 10.0, 5.0)):
        write_wav(tmp_path / "in" / f"{n}.wav", seconds)
    (tmp_path / "in" / "3.wav").write_text("no audio")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--item-s", "20"]
    assert main(["score", *arguments, "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "dry run: nothing is written"
    assert printed[1] == "plan:   3 recordings with 0.01 h of audio in 4 items; 0 are planned already"
    assert "alm pooled-alm:mini, specialist pooled:mini" in printed[2]
    assert printed[3].startswith("label:  3 recordings as angry,happy")
    assert main(["embed", *arguments, "--dry-run", "--limit-hours", "0.005"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].startswith("encode: 0.01 h of audio")
    assert "limited to the first 0.005 h" in printed[2]
    assert len(printed) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_planned_archive_counts_what_is_new(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "0.wav", 30.0)
    grow(config(tmp_path / "in", tmp_path / "out"))
    write_wav(tmp_path / "in" / "1.wav", 10.0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    lines = preview(options(tmp_path)).splitlines()
    assert lines[1] == "plan:   1 recording with 0.00 h of audio in 1 item; 1 are planned already"
    assert lines[2].startswith("encode: 0.01 h of audio")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_remains_of_a_killed_plan_stay(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "0.wav", 1.0)
    left = tmp_path / "out" / "plan" / "000" / "recordings.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    preview(options(tmp_path))
    assert left.exists()


def test_hours_of_many_recordings_are_estimated_from_a_sample(tmp_path: Path, monkeypatch) -> None:
    for n in range(40):
        write_wav(tmp_path / f"{n:02}.wav", 45.0 if n % 2 else 15.0)
    listing = list_archive(str(tmp_path))
    whole = extent_of(listing, 20.0)
    assert (whole.recordings, whole.items, whole.of_sample) == (40, 80, None)
    assert whole.hours == pytest.approx(20 * 60 / 3600)
    monkeypatch.setattr(module, "SAMPLE", 11)
    some = extent_of(listing, 20.0)
    assert (some.recordings, some.of_sample) == (40, 11)
    assert some.hours == pytest.approx(whole.hours, rel=0.3)


def test_errors_of_the_command_are_those_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        preview(options(tmp_path))
    with pytest.raises(InputError, match="--dry-run is for an archive"):
        build(ScoreConfig, WITH_TABLE | {"dry_run": True})
    with pytest.raises(InputError, match="--limit-hours has no effect with --embeddings"):
        build(ScoreConfig, WITH_TABLE | {"limit_hours": 1.0})
