"""A dead, malformed or foreign address of a cluster is refused at once; a lost cluster stops the command."""

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import ray

from zsfuse_ray.errors import InputError, Stopped
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs import watch as module
from zsfuse_ray.runs.watch import check_address

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "address",
    ["localhost", "foo:bar:1", "h:0", "h:99999", "h:", ":6379", "http://h:1", "h:1/x", "a b:1", "::1", "foo://h:1"],
)  # fmt: skip
def test_a_malformed_address_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match="it must be HOST:PORT") as caught:
        check_address(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "no-host.invalid:6379", "ray://127.0.0.1:1"])
def test_a_dead_address_is_refused_at_once(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster at") as caught:
        check_address(address)
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answers", [True, False])
def test_another_server_is_refused(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    """One that answers in another protocol, and one that accepts connections and never answers."""
    monkeypatch.setattr(module, "ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.close()
            while answers:
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(InputError, match="what answers there is not Ray"):
            check_address(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAUTHENTICATED])
def test_a_healthy_control_process_is_accepted(code: grpc.StatusCode | None) -> None:
    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        if code is not None:
            context.abort(code, "no token")
        return b"\x08\x01"

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        check_address(f"127.0.0.1:{port}")
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /x"), InputError, "set RAY_TMPDIR=/tmp"),
        (
            FileNotFoundError(2, "No such file", "/nohome"),
            InputError,
            "cannot start Ray, which writes to HOME",
        ),
        (PermissionError(13, "Permission denied", "/x/.ray"), InputError, "/x/.ray"),
        (OSError(30, "Read-only file system", "/x"), InputError, "/x"),
        (OSError(28, "No space left on device"), Stopped, "no space left"),
    ],
)
def test_an_environment_in_which_ray_cannot_start(monkeypatch, error, kind, message) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(cluster, "_init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(kind, match=message) as caught:
        cluster.connect(None)
    assert "\n" not in str(caught.value)


def test_a_lost_process_of_ray_stops_the_command_with_code_3() -> None:
    """Even inside a `try` that catches Exception."""
    program = """
import socket, sys, threading, time
from types import SimpleNamespace
import ray
from zsfuse_ray import process
from zsfuse_ray.runs import watch

watch.LOOK_S, watch.LOST_S, process.SHUTDOWN_S = 0.1, 0.3, 2.0
raylet, control = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
ports = [server.getsockname()[1] for server in (raylet, control)]
context = SimpleNamespace(get_node_id=lambda: "n", gcs_address=f"127.0.0.1:{ports[1]}")
ray.get_runtime_context = lambda: context
ray.nodes = lambda: [{"NodeID": "n", "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": ports[0]}]
ray.is_initialized = lambda: True
ray.shutdown = lambda: None

def main(argv):
    watch.watch(own_ray=True)
    time.sleep(1)
    print("lives", flush=True)
    raylet.close()
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass

process.run_job(main, [])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = "error: Ray's raylet on this machine was lost; stopped; the same command resumes\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "lives\n", line)
