"""An object store behind a proxy that injects faults: throttling, outages, broken connections.

The requests' signatures stay valid, because the proxy passes the Host header on as it came.
"""

import http.client
import http.server
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SLOW_S = 1.5
# Faults before the store sees a request: an answer of its own, or no answer.
REFUSALS = {
    "slow_down": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "expired": (403, "ExpiredToken"),
}
ANSWER = (  # as long as that of AWS
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
    "<Message>Please reduce your request rate.</Message>"
    "<RequestId>4442587FB7D0A2F9</RequestId><HostId>{host}</HostId></Error>"
)
# lost: the store does what it is asked, its answer is lost; cut: half of the answer's body arrives.
USUAL = ("slow_down", "internal", "slow", "reset", "lost", "cut")


@dataclass
class Faults:
    """Which requests fail. rate: their share; only: of those with this in "METHOD /path?query RANGE"."""

    seed: int = 0
    rate: float = 0.0
    kinds: Sequence[str] = USUAL
    only: str = ""
    most: int | None = None  # faults before all requests work
    injected: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)  # by method
    seen: list[str] = field(default_factory=list)
    _rng: random.Random = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def draw(self, method: str, path: str, wanted: str) -> str | None:
        """The fault of a request for a range of bytes, or "", of an object; None if it works."""
        with self._lock:
            self.requests[method] += 1
            self.seen.append(f"{method} {path} {wanted}")
            if self.most is not None and self.injected.total() >= self.most:
                return None
            fails = self._rng.random() < self.rate and re.search(self.only, self.seen[-1])
            fault = self._rng.choice(list(self.kinds)) if fails else None
            if fault:
                self.injected[fault] += 1
            return fault


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client has gone
            self.close_connection = True

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.server.faults.draw(self.command, self.path, self.headers.get("Range", ""))
        if fault == "reset":
            return self._reset()
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault in REFUSALS:
            return self._refuse(*REFUSALS[fault])
        try:
            status, headers, answer = self._asked(body)
        except (OSError, http.client.HTTPException):  # the store itself is away
            return self._reset()
        if fault == "lost":
            return self._reset()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "keep-alive", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)
        if fault == "cut":
            self._reset()
        return None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _body(self) -> bytes:
        """The request's body as it came, with the sizes of its chunks if it has them."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            body += line + self.rfile.read(size + 2)
            if not size:
                return body

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The store's answer."""
        place = urlsplit(self.server.store)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int, code: str) -> None:
        answer = ANSWER.format(code=code, host="A1b/" * 19).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _reset(self) -> None:
        """Close the connection so that the client gets a reset, not an end."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256
    store = ""
    faults = Faults()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # of a connection that was reset


@contextmanager
def faulty(environment: Mapping[str, str], faults: Faults) -> Iterator[dict[str, str]]:
    """The environment to reach a store through a proxy with these faults, which may be changed meanwhile."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.store, server.faults = environment["AWS_ENDPOINT_URL"], faults
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        finally:
            server.shutdown()
