"""URIs and their filesystems; gs:// against a server of Google Cloud Storage's interface."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.jobs.jobs_support import speech, write_wav
from zsfuse_ray import Labeller, stores
from zsfuse_ray.archive.listing import VERSION, list_archive
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.corpora.folder import open_folder
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.store import mirrored
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.stores import audio_filesystem, check_scheme


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/a",
        "s3://b/a::b.wav",
        "https://h/a::b.wav",
        "gs://b/a",
        "https://h/a.wav",
        "hf://d/a",
        "file:///a",
        "demo:1",
        "/a: b",
        "a::b.wav",
        "a.wav",
    ],
)
def test_readable_schemes(uri: str) -> None:
    assert check_scheme(uri) == uri


@pytest.mark.parametrize(
    "uri",
    ["ftp://h/a", "gopher://h", "zip://a.wav::s3://b/a.zip", "s3://b/a::file:///etc", "filecache::s3://b/a"],
)
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"cannot read .*https://"):
        check_scheme(uri)
    with pytest.raises(InputError, match="cannot read"):
        list_archive(uri)


@pytest.mark.parametrize("uri", ["s3://KEY:hunt/er2@b/a.wav", "s3://KEY:hunter2@b", "gs://hunter2@b/a"])
def test_credentials_in_an_address_are_refused_without_printing_them(uri: str) -> None:
    for call in (list_archive, Output.open, check_scheme):
        with pytest.raises(InputError, match="credentials in an address are not used") as caught:
            call(uri)
        assert "hunt" not in str(caught.value)
        assert "KEY:" not in str(caught.value)


def test_names_with_colons_are_no_chains_of_filesystems() -> None:
    for uri in ("s3://b/a::b.wav", "https://h/a::b.wav", "s3://arn:aws:s3:eu-1:12:accesspoint/x/a"):
        assert check_scheme(uri) == uri


@pytest.mark.parametrize("uri", ["https://h/out", "hf://datasets/out", "hdfs://h/out"])
def test_output_must_be_writable(uri: str) -> None:
    with pytest.raises(InputError, match=r"is not supported here \(a path, or s3://, gs://\)"):
        Output.open(uri)
    with pytest.raises(InputError, match="is not supported here"):
        mirrored(uri)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "gcp-storage-emulator", "start", "--in-memory", "--quiet"]
    server = subprocess.Popen([*command, f"--port={port}", "--default-bucket=archive"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
        stores._gcs.cache_clear()
        deadline = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield "gs://archive"
    server.terminate()
    server.wait()
    stores._gcs.cache_clear()


def test_recordings_in_google_cloud_storage(bucket: str, tmp_path: Path) -> None:
    talk = write_wav(tmp_path / "talk.wav", speech(8, seed=1))
    out = Output.open(f"{bucket}/in")
    out.write_bytes("talk 1 ü.wav", talk.read_bytes())
    out.write_bytes("below/other.wav", talk.read_bytes())
    listed = list_archive(f"{bucket}/in")
    assert sorted(listed["uri"].to_pylist()) == [f"{bucket}/in/below/other.wav", f"{bucket}/in/talk 1 ü.wav"]
    assert listed["size"].to_pylist() == [talk.stat().st_size] * 2
    assert list_archive(f"{bucket}/in/*.wav")["uri"].to_pylist() == [f"{bucket}/in/talk 1 ü.wav"]
    with open_audio(f"{bucket}/in/talk 1 ü.wav") as file:
        file.seek(1000)
        assert file.read(100) == talk.read_bytes()[1000:1100]
    out.write_bytes("talk 1 ü.wav", talk.read_bytes()[:-2])
    assert list_archive(f"{bucket}/in")[VERSION][1] != listed[VERSION][1]
    with (
        pytest.raises(SourceError, match=r"no such object: gs://archive/in/none\.wav"),
        open_audio(f"{bucket}/in/none.wav"),
    ):
        pass
    with pytest.raises(InputError, match="nothing there"):
        list_archive(f"{bucket}/nothing")


def test_a_file_in_google_cloud_storage_is_labelled(bucket: str, tmp_path: Path) -> None:
    talk = write_wav(tmp_path / "talk.wav", speech(8, seed=1))
    Output.open(f"{bucket}/one").write_bytes("talk.wav", talk.read_bytes())
    labeller = Labeller.from_preset("mini")
    rows, expected = labeller.label(f"{bucket}/one/talk.wav"), labeller.label(talk)
    assert len(rows) > 0
    assert rows.droplevel("file").equals(expected.droplevel("file"))


def test_tables_and_checkpoints_in_google_cloud_storage(bucket: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = Output.open(f"{bucket}/out")
    table = pa.table({"a": [1, 2]})
    out.write_table("segments/0.parquet", table)
    assert out.read_table("segments") == table
    out.delete("segments")
    assert not out.exists("segments")
    out.write_bytes("model/config.json", b"{}")
    assert (mirrored(f"{bucket}/out/model") / "config.json").read_bytes() == b"{}"
    out.write_bytes("corpus/metadata.csv", b"file,emotion\na.wav,sad\n")
    assert open_folder(f"{bucket}/out/corpus").rows("metadata.csv") == [{"file": "a.wav", "emotion": "sad"}]
    with pytest.raises(InputError, match="there is no bucket nobucket"):
        Output.open("gs://nobucket/out")


def test_credentials_set_after_a_first_try_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: s3fs itself keeps those of its first use in a process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    without, _ = audio_filesystem("s3://bucket/a.wav")
    assert audio_filesystem("s3://bucket/b.wav")[0] is without
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with_them, _ = audio_filesystem("s3://bucket/a.wav")
    assert with_them is not without
    assert audio_filesystem("s3://bucket/a.wav")[0] is with_them
