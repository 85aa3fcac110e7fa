"""Failures of a recording, and those of the folder or store that holds it."""

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from zsfuse_ray.audio import outages
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.outages import Outage, archive_root, unless_outage
from zsfuse_ray.audio.sources import SourceError, open_audio


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "share/in/deep").mkdir(parents=True)
    for name in ("in/a.wav", "in/deep/b.wav"):
        (tmp_path / "share" / name).write_bytes(b"RIFF")
    return tmp_path / "share/in"


def read(path: Path, root: str | None) -> None:
    def opened() -> bytes:
        with open_audio(str(path)) as file:
            return file.read()

    unless_outage(opened, str(path), root)


def test_a_file_that_is_gone_is_not_an_outage(archive: Path) -> None:
    shutil.rmtree(archive / "deep")
    for root in (str(archive), None):
        with pytest.raises(SourceError) as caught:
            read(archive / "deep/b.wav", root)
        assert not isinstance(caught.value, Outage)
        assert caught.value.reason == "not_found"


@pytest.mark.parametrize("leaves_mount_point", [True, False])
@pytest.mark.parametrize("is_manifest", [True, False])
def test_an_unmounted_share_is_an_outage(archive: Path, leaves_mount_point: bool, is_manifest: bool) -> None:
    root = None if is_manifest else str(archive)
    read(archive / "a.wav", root)
    shutil.rmtree(archive)  # as share/ is mounted
    if not leaves_mount_point and not is_manifest:
        archive.parent.rmdir()
    with pytest.raises(Outage, match="does not answer"):
        read(archive / "a.wav", root)


def client_error(code: str, status: int) -> Exception:
    """As s3fs raises it."""
    kinds = {403: PermissionError, 404: FileNotFoundError}
    error, cause = kinds.get(status, OSError)(code), Exception()
    cause.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = cause
    return error


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("answer", "root", "is_outage"),
    [
        (None, "s3://b/in", False),  # an archived object, a key that no object can have
        (None, None, False),
        (client_error("AccessDenied", 403), None, False),  # one row of a manifest
        (client_error("NoSuchBucket", 404), None, False),
        (client_error("AccessDenied", 403), "s3://b/in", True),
        (client_error("ExpiredToken", 400), None, True),
        (client_error("SlowDown", 503), None, True),
        (NoCredentialsError(), None, True),
        (ConnectionError("refused"), "s3://b/in", True),
    ],
)
@pytest.mark.parametrize("reason", ["denied", "unreachable", "timeout"])
def test_a_store_is_asked_whether_it_answers(answer, root, is_outage: bool, reason: str, monkeypatch) -> None:
    def list_objects(*_, **__) -> None:
        if answer is not None:
            raise answer

    def fail() -> None:
        raise SourceError(reason, "no")

    store = SimpleNamespace(call_s3=list_objects)
    monkeypatch.setattr(outages, "audio_filesystem", lambda uri: (store, ""))
    monkeypatch.setattr(outages, "PATIENCE_S", (0.0, 0.0))
    with pytest.raises(SourceError) as caught:
        unless_outage(fail, "s3://b/in/a.wav", root)
    assert isinstance(caught.value, Outage) == is_outage
    assert caught.value.reason == reason


@pytest.mark.parametrize(("root", "is_outage"), [("s3://b/in", True), (None, False)])
def test_a_bucket_that_is_gone_is_an_outage_of_its_archive(root, is_outage: bool, monkeypatch) -> None:
    def list_objects(*_, **__) -> None:
        raise client_error("NoSuchBucket", 404)

    def fail() -> None:
        raise SourceError("not_found", "no")

    store = SimpleNamespace(call_s3=list_objects)
    monkeypatch.setattr(outages, "audio_filesystem", lambda uri: (store, ""))
    with pytest.raises(SourceError) as caught:
        unless_outage(fail, "s3://b/in/a.wav", root)
    assert isinstance(caught.value, Outage) == is_outage


def test_a_recording_is_read_again_after_its_store_was_away(monkeypatch) -> None:
    states = iter(["silent", "silent", "answers"])
    tries = []

    def fail_once() -> str:
        tries.append(None)
        if len(tries) == 1:
            raise SourceError("unreachable", "no")
        return "audio"

    monkeypatch.setattr(outages, "_state", lambda *_: next(states))
    monkeypatch.setattr(outages, "PATIENCE_S", (0.0, 0.0, 0.0))
    assert unless_outage(fail_once, "s3://b/a.wav", None) == "audio"


def test_nobody_is_asked_about_broken_files_and_web_hosts(monkeypatch) -> None:
    def fail(error: Exception):
        raise error

    monkeypatch.setattr(outages, "_state_of_store", lambda *_: pytest.fail("asked"))
    for uri, error in [
        ("s3://b/a.wav", DecodeError("corrupt", "no")),
        ("https://no.such.host/a.wav", SourceError("unreachable", "no")),
        ("demo:x", SourceError("not_found", "no")),
    ]:
        with pytest.raises(type(error)):
            unless_outage(lambda error=error: fail(error), uri, None)


def test_the_root_of_an_archive(archive: Path) -> None:
    cases = {
        str(archive): str(archive),
        f"file://{archive}": str(archive),
        f"{archive}/*/*.wav": str(archive),
        str(archive / "a.wav"): None,
        "demo": None,
        "clips.csv": None,
        "s3://b/in": "s3://b/in",
        "s3://b/in/*.wav": "s3://b/in",
    }
    assert {given: archive_root(given) for given in cases} == cases


def test_a_web_host_that_has_answered_before_stops_the_run_when_it_is_away(monkeypatch) -> None:
    """While one that is new to the archive may never have existed: its rows are rejects."""

    def fail() -> None:
        raise SourceError("unreachable", "refused")

    monkeypatch.setattr(outages, "PATIENCE_S", (0.0, 0.0))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{server.getsockname()[1]}/a.wav"
        for is_planned in (True, False):
            with pytest.raises(SourceError) as caught:
                unless_outage(fail, uri, None, is_planned)
            assert isinstance(caught.value, Outage) == is_planned
            assert "secret" not in str(caught.value)
        server.listen()
        with pytest.raises(SourceError) as caught:  # it answers: the fault of one object
            unless_outage(fail, uri, None, True)
        assert not isinstance(caught.value, Outage)
    with pytest.raises(SourceError) as caught:
        unless_outage(fail, "http://h:99999/a.wav", None, True)
    assert not isinstance(caught.value, Outage)
