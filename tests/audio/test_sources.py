import errno
import http.server
import io
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio import sources
from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.redirects import VARIABLE, allow_only
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.stores import web_address

SIGNED = (
    "/signed/a%2Fb%20c%3D(1)%2C~!'*%5B2%5D+%C3%BC.wav?X-Amz-Credential=AK%2F1%2fx&v=a%2Bb+c%7E:/@?,$&e"
    "&Signature=a%2Bb%3D%3d&x=%41"
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `body` at /parts (with ranges), /whole (without), /endless (without its length either), /flaky
    (fails twice) and, a byte at a time, at /slow (with ranges) and /slowest; statuses at /403 …"""

    body = b""
    failures = 0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        where = self.path.strip("/").partition("?")[0]
        if where.isdigit():
            self.send_error(int(where))
            return
        if where == "redirect":
            self.send_response(302)
            self.send_header("Location", SIGNED)
            self.end_headers()
            return
        if where == "away":
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
            return
        if where.startswith("signed") and (self.path != SIGNED or self.command == "HEAD"):
            self.send_error(403)  # the signature is that of a GET of exactly this address
            return
        wanted = self.headers.get("Range")
        if where == "flaky" and wanted and Handler.failures < 2:
            Handler.failures += 1
            self.send_error(503)
            return
        body = self.body
        if wanted and where not in ("whole", "endless", "slowest"):
            first, last = (int(end) for end in wanted.removeprefix("bytes=").split("-"))
            body = body[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(self.body)}")
        else:
            self.send_response(200)
        if where not in ("endless", "slowest"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            try:
                for place in range(len(body) if where.startswith("slow") else 0):
                    self.wfile.write(body[place : place + 1])
                    time.sleep(0.05)
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sound") / "a b ü.wav", "pcm_s16le", chirp(30))


@pytest.fixture
def server(sound: Path) -> Iterator[str]:
    Handler.body, Handler.failures = sound.read_bytes(), 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RETRY_WAITS_S", (0.01, 0.01, 0.01))


def test_local_paths_and_file_uris(sound: Path) -> None:
    for uri in (str(sound), f"file://{sound}", sound.as_uri()):
        with open_audio(uri) as file:
            assert file.read(4) == b"RIFF"


@pytest.mark.parametrize("where", ["parts", "whole", "endless", "flaky"])
def test_http_slices_with_and_without_ranges(server: str, where: str) -> None:
    assert len(Handler.body) > 2 * sources.BLOCK_BYTES  # the end is not in the first read
    pcm = decode(f"{server}/{where}", 25, 26)
    np.testing.assert_array_equal(pcm.samples, chirp(30)[25 * 48_000 : 26 * 48_000])


@pytest.mark.parametrize("where", [SIGNED, "/redirect"])
def test_signed_links_are_sent_as_they_are(server: str, where: str) -> None:
    with open_audio(server + where) as file:
        assert file.read(4) == b"RIFF"
        file.seek(1000)
        assert file.read(100) == Handler.body[1000:1100]


def test_letters_that_no_address_contains_are_encoded() -> None:
    encoded = "https://me:p%40@h:8/a%20b%22%C3%BC100%25%20%5B1%5D[2].wav?q=1%202&n=%zz".replace(
        "%zz", "%25zz"
    )
    assert web_address('https://me:p%40@h:8/a b"ü100% %5B1%5D[2].wav?q=1%202&n=%zz') == encoded
    assert web_address(encoded) == encoded
    assert web_address("https://bücher.de/ü") == "https://xn--bcher-kva.de/%C3%BC"


def test_a_refused_link_is_not_blamed_on_credentials(server: str) -> None:
    with pytest.raises(SourceError) as caught, open_audio(f"{server}{SIGNED}&more=1"):
        pass
    assert caught.value.reason == "denied"
    assert "signature may have expired" in str(caught.value)
    assert "403" in str(caught.value)
    assert "credentials" not in str(caught.value)


@pytest.mark.parametrize("where", ["slow", "slowest"])
def test_a_server_that_gives_a_byte_at_a_time_is_given_up(server: str, where: str, monkeypatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_TIMEOUT_S", 0.4)
    monkeypatch.setattr(sources, "SLOWEST_AFTER_S", 0.4)
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        decode(f"{server}/{where}")
    assert caught.value.reason == "timeout"
    assert time.monotonic() - started < 3


def test_a_file_that_cannot_be_read_any_more(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a bad sector or a stale mount: at its head and later."""

    class Broken(io.FileIO):
        broken_from = 0

        def readinto(self, buffer) -> int:
            if self.tell() >= self.broken_from:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *_, **__: Broken(str(sound)))
        for Broken.broken_from in (0, 1 << 20):
            with pytest.raises(SourceError, match="Input/output error") as caught:
                decode(str(sound))
            assert caught.value.reason == "unreachable"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("demo:x", "not_found"),
        ("demo:", "not_found"),
        ("demo:-1", "not_found"),
        ("demo:²", "not_found"),
        ("hf://", "unreachable"),
        ("hf://x", "unreachable"),
        ("s3://", "unreachable"),
        ("s3://bucket", "unreachable"),
        ("https://", "unreachable"),
        ("http://[/x", "unreachable"),
        ("a\0.wav", "unreachable"),
    ],
)
def test_what_is_no_address_of_a_file_is_a_source_error(uri: str, reason: str) -> None:
    with pytest.raises(SourceError) as caught, open_audio(uri):
        pass
    assert caught.value.reason == reason


def test_copy_size_is_limited(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_COPY_BYTES", 1 << 20)
    with pytest.raises(SourceError) as caught:
        decode(f"{server}/whole", 25, 26)
    assert caught.value.reason == "too_large"


def test_errors_have_reasons_and_no_secrets(server: str, tmp_path: Path) -> None:
    cases = {
        str(tmp_path / "none.wav"): "not_found",
        str(tmp_path): "not_found",
        f"{server}/404?token=hunter2": "not_found",
        f"{server}/403?X-Amz-Signature=hunter2": "denied",
        f"{server}/401": "denied",
        f"{server}/503?sig=hunter2": "unreachable",
        "http://me:hunter2@127.0.0.1:9/a.wav": "unreachable",
        "nonsense://a/b.wav": "unreachable",
    }
    for uri, reason in cases.items():
        with pytest.raises(SourceError) as caught, open_audio(uri) as file:
            file.read(1)
        assert caught.value.reason == reason, uri
        assert "hunter2" not in f"{caught.value!r} {caught.value}"


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(SourceError("denied", "no\nway " * 100)))
    assert isinstance(error, SourceError)
    assert error.reason == "denied"
    assert len(str(error)) <= 300
    assert "\n" not in str(error)


def test_demo_recordings() -> None:
    with open_audio("demo:1") as file:
        assert file.read(4) == b"RIFF"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "http://localhost:{port}/parts",
        "//127.0.0.2/x",
    ],
)
def test_an_allowed_host_may_not_redirect_to_others(server: str, target: str, monkeypatch) -> None:
    """Nor may any host, once it is allowed, lead to an address that a manifest may not name."""
    monkeypatch.setenv(VARIABLE, "")  # and as it was afterwards
    port = server.rpartition(":")[2]
    allow_only([server])
    with (
        pytest.raises(SourceError, match="not an address of --allow-hosts") as caught,
        open_audio(f"{server}/away?{target.format(port=port)}"),
    ):
        pass
    assert caught.value.reason == "not_allowed"
    monkeypatch.setattr(Handler, "failures", 0)
    with open_audio(f"{server}/away?/parts") as file:  # to the same host
        assert file.read(4) == b"RIFF"
    if "localhost" in target:
        for hosts in ((server, f"localhost:{port}"), ()):
            allow_only(hosts)
            with open_audio(f"{server}/away?{target.format(port=port)}") as file:
                assert file.read(4) == b"RIFF"


def test_a_host_that_refuses_is_waited_for_once_and_not_by_every_row(monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(sources, "RETRY_WAITS_S", (1.0, 2.0))
    monkeypatch.setattr(sources.time, "sleep", waits.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    for n in range(3):
        with pytest.raises(SourceError) as caught, open_audio(f"{host}/{n}.wav"):
            pass
        assert caught.value.reason == "unreachable"
    assert waits == [1.0, 2.0]


def test_errors_of_one_object_do_not_shorten_the_patience_with_others(server: str, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(sources, "RETRY_WAITS_S", (1.0,))
    monkeypatch.setattr(sources.time, "sleep", waits.append)
    for _ in range(2):
        with pytest.raises(SourceError), open_audio(f"{server}/503"):
            pass
    assert waits == [1.0, 1.0]
