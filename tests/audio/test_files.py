"""What is in a folder: links, folders that cannot be listed, files that are no files, odd names."""

import os
import socket
import time
from pathlib import Path

import pytest

from tests.archive.growing_archives import config, grow, rows_of, write_wav
from tests.archive.listed_files import touch
from zsfuse_ray.audio.files import list_files
from zsfuse_ray.audio.probe import probe
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.corpora.folder import open_folder
from zsfuse_ray.errors import InputError
from zsfuse_ray.stores import local_path


def found(archive: object, folder: Path) -> list[str]:
    return [os.path.relpath(file["uri"], folder) for file in list_files(str(archive))]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return touch(tmp_path / "in", "a.wav", "sub/b.wav", "sub/deep/c.wav")


def reason(uri: str) -> tuple[str, str]:
    with pytest.raises(SourceError) as caught, open_audio(uri) as file:
        file.read(1)
    return caught.value.reason, str(caught.value)


def test_links_to_folders_and_files_are_followed(place: Path, tmp_path: Path) -> None:
    touch(tmp_path, "other/x.wav", "other/below/y.wav", "single.wav")
    (place / "link").symlink_to(tmp_path / "other")
    (place / "one.wav").symlink_to(tmp_path / "single.wav")
    names = ["a.wav", "one.wav", "sub/b.wav", "sub/deep/c.wav", "link/x.wav", "link/below/y.wav"]
    assert found(place, place) == names
    (tmp_path / "root").symlink_to(place)
    assert len(list_files(str(tmp_path / "root"))) == len(names)


def test_loops_end_and_no_folder_is_listed_twice(place: Path, tmp_path: Path) -> None:
    (place / "self").symlink_to(place)
    (place / "sub" / "up").symlink_to("..")
    (place / "above").symlink_to(tmp_path)
    (place / "again").symlink_to(place / "sub")
    (place / "broken.wav").symlink_to("itself")
    (place / "itself").symlink_to("itself")
    touch(tmp_path, "p/1.wav", "q/2.wav")
    (tmp_path / "p" / "q").symlink_to(tmp_path / "q")
    (tmp_path / "q" / "p").symlink_to(tmp_path / "p")
    (place / "z").symlink_to(tmp_path / "p")
    plain = ["a.wav", "broken.wav", "itself", "sub/b.wav", "sub/deep/c.wav"]
    assert found(place, place) == [*plain, "z/1.wav", "z/q/2.wav"]
    some = [name for name in plain if name.endswith(".wav")]
    assert found(f"{place}/**/*.wav", place) == [*some, "z/1.wav", "z/q/2.wav"]


def no_scandir(monkeypatch: pytest.MonkeyPatch, folder: Path, error: OSError) -> None:
    """Let a folder be one that cannot be listed; permissions do not stop root."""
    real = os.scandir

    def scandir(path: str):
        if os.path.abspath(path) == str(folder):
            raise error
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied"), ("denied", "no permission to list the folder")),
        (OSError(5, "Input/output error"), ("unreachable", "Input/output error")),
    ],
)
def test_a_folder_that_cannot_be_listed_is_in_the_rejects(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: tuple[str, str]
) -> None:
    (place / "a.wav").unlink()
    (place / "sub" / "b.wav").unlink()
    write_wav(place / "a.wav", 2)
    no_scandir(monkeypatch, place / "sub", error)
    monkeypatch.setattr("zsfuse_ray.archive.probing.probe", probe)  # in this process, which has the patch
    plan, _ = grow(config(place, tmp_path / "out"))
    rows = {row["uri"]: row for row in rows_of(plan, "recordings")}
    assert list(rows) == [f"{place}/a.wav", f"{place}/sub/"]
    row = rows[f"{place}/sub/"]
    assert row["probe_reason"] == expected[0]
    assert expected[1] in row["probe_message"]
    assert rows[f"{place}/a.wav"]["probe_reason"] is None
    with pytest.raises(InputError, match="cannot list this folder"):
        open_folder(str(place))


@pytest.mark.skipif(os.name != "posix", reason="POSIX has these kinds of files")
def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    write_wav(folder / "a.wav", 2)
    os.mkfifo(folder / "b.wav")
    (folder / "c.wav").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # names of sockets must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("d.wav")
        started = time.monotonic()
        plan, _ = grow(config(folder, tmp_path / "out"))
        assert time.monotonic() - started < 5
    assert {os.path.basename(row["uri"]): row["probe_reason"] for row in rows_of(plan, "recordings")} == {
        "a.wav": None,
        "b.wav": "not_a_file",
        "c.wav": "not_a_file",
        "d.wav": "not_a_file",
    }
    assert reason(str(folder / "b.wav")) == ("not_a_file", f"a FIFO, not a file: {folder}/b.wav")
    assert "a device" in reason("/dev/zero")[1]
    with pytest.raises(InputError, match="no audio in it"):
        grow(config(folder / "b.wav", tmp_path / "other"))
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(InputError, match="a FIFO, not a file"):
        grow(config(tmp_path / "list.csv", tmp_path / "third"))


ODD = [
    "a [1].wav",
    "b#2.wav",
    "c%20d.wav",
    "e f.wav",
    "ü名.wav",
    "g?h.wav",
    "i*.wav",
    "j::k.wav",
    "l;m=n&o.wav",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path, tmp_path / name.removesuffix(".wav")):
        path = touch(folder, name) / name
        expected = [{"uri": str(path), "size": 5}]
        for archive in (str(path), path.as_uri(), f"file://{path}"):
            listed = list_files(archive)
            assert [{key: file[key] for key in ("uri", "size")} for file in listed] == expected
            with open_audio(archive) as file:
                assert file.read() == b"audio"
            assert local_path(archive) == str(path)
    assert found(tmp_path / name.removesuffix(".wav"), tmp_path) == [f"{name.removesuffix('.wav')}/{name}"]


def test_a_glob_is_used_only_if_no_file_has_this_name(tmp_path: Path) -> None:
    touch(tmp_path, "a1.wav", "a2.wav", "deep/a3.wav", "[x]/b.wav")
    assert found(f"{tmp_path}/a[12].wav", tmp_path) == ["a1.wav", "a2.wav"]
    assert found(f"{tmp_path}/*/*.wav", tmp_path) == ["[x]/b.wav", "deep/a3.wav"]
    assert found(f"{tmp_path}/[x]", tmp_path) == ["[x]/b.wav"]
    touch(tmp_path, "a[12].wav")
    assert found(f"{tmp_path}/a[12].wav", tmp_path) == ["a[12].wav"]
    with pytest.raises(InputError, match="no file matches"):
        list_files(f"{tmp_path}/none/*.wav")
