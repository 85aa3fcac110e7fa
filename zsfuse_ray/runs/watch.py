"""Whether the Ray of a run answers: checked before it is joined, and watched while the run uses it."""

import os
import re
import socket
import threading
import time
from typing import Any

import grpc
import ray

from zsfuse_ray.errors import InputError
from zsfuse_ray.process import stop_command

ANSWER_S = 10.0  # within which a cluster must answer
LOOK_S = 2.0
LOST_S = 4.0  # without an answer from the raylet or control process of a local Ray
RESTART_S = 40.0  # a cluster's control process may be restarted; Ray itself waits for 60 s and exits
_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})")
# Statuses of a server that is there, but demands a token or does not offer the check.
_THERE = ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")


def check_address(address: str) -> None:
    """InputError, within seconds, unless a Ray cluster answers at host:port. ray.init would wait for ever."""
    if address in ("auto", "local"):
        return
    match = _ADDRESS.fullmatch(address)
    if not match or not 0 < int(match[2]) < 65536:
        raise InputError(f"Ray address {address} (--ray-address or RAY_ADDRESS): it must be HOST:PORT")
    host, port = match[1].strip("[]"), int(match[2])
    if (why := _no_answer(host, port)) is None and not address.startswith("ray://"):
        why = _not_ray(f"{match[1]}:{port}")
    if why is not None:
        raise InputError(
            f"no Ray cluster at {address} (--ray-address or RAY_ADDRESS): {why}; without it, Ray starts here"
        )


def _no_answer(host: str, port: int, seconds: float = ANSWER_S) -> str | None:
    """Why nothing listens there, None if something does."""
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except (OSError, UnicodeError) as error:  # UnicodeError: not the name of a host
        return getattr(error, "strerror", None) or str(error)
    return None


def _not_ray(target: str) -> str | None:
    """Why what listens there is no control process of Ray, None if it is one, by its health check."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return None  # it answers only who has its certificates
    try:
        with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=ANSWER_S)
    except grpc.RpcError as error:
        status: Any = error
        return None if status.code().name in _THERE else "what answers there is not Ray"
    return None


def watch(own_ray: bool) -> None:
    """Stop the command, from a thread, when this machine's raylet or the control process no longer answers.

    Ray ends the process then, after a while and without a word. own_ray: this process started Ray.
    """
    here = ray.get_runtime_context().get_node_id()
    (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
    control_host, _, control_port = ray.get_runtime_context().gcs_address.rpartition(":")
    watched = {
        "Ray's raylet on this machine": (node["NodeManagerAddress"], node["NodeManagerPort"], LOST_S),
        "Ray's control process": (
            control_host.strip("[]"),
            int(control_port),
            LOST_S if own_ray else RESTART_S,
        ),
    }

    def look() -> None:
        answered = dict.fromkeys(watched, time.monotonic())
        while ray.is_initialized():
            for name, (host, port, patience) in watched.items():
                if _no_answer(host, port, LOOK_S) is None:
                    answered[name] = time.monotonic()
                elif time.monotonic() - answered[name] >= patience and ray.is_initialized():
                    stop_command(f"{name} was lost")
                    return
            time.sleep(LOOK_S)

    threading.Thread(target=look, daemon=True).start()
