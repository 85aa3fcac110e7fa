"""Start or join Ray, and check before a run that the cluster has the resources for it."""

import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.data import DataContext

from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.errors import InputError, Stopped, disk_problem
from zsfuse_ray.runs.watch import check_address, watch

log = logging.getLogger(__name__)

# Logical CPUs for Ray Data's own steps (read, checkpoint filter, fuse and write), beside decoding and pools.
OWN_STEPS = 3
# Object store of a local Ray, per core, when audio only streams through it: a few bundles. Ray's default is a
# third of the memory; workers keep the pages that they have read, more of them for longer archives.
STREAM_STORE_BYTES = 200_000_000
# With fewer, a job waits for ever without a message: the checkpoint filter occupies one.
FEWEST_CPUS = 2


@dataclass(frozen=True)
class Pool:
    """Resources of one pool of encoder actors."""

    models: tuple[str, ...]  # their names in tables, such as "alm"
    min_size: int
    max_size: int
    num_cpus: float
    num_gpus: float
    threads: int


def connect(address: str | None, dashboard: bool = False, *, streams: bool = False) -> bool:
    """Join the cluster at ``address`` or RAY_ADDRESS (set by ``ray job submit``); without either, start Ray.

    Returns whether it started Ray. A local Ray gets more logical CPUs than there are cores, so that actors
    never take the last one from the steps that feed them. A Ray instance already on this machine is not
    joined: it may belong to another job and end with it. dashboard: start the dashboard as well, and log its
    address. streams: the object store only has to hold what is in transit between stages.
    """
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    for handler in logging.getLogger("ray.data").handlers:
        # only Ray's console handler: its log file and a calling program's handlers are unchanged
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.CRITICAL)  # what fails a run is reported, in one line, at its end
    DataContext.get_current().enable_progress_bars = False  # ours counts hours of audio
    # Ray's default, 32 processes, costs a small run ten seconds; one reads 128 footers at a time
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    if address := address or os.environ.get("RAY_ADDRESS"):
        check_address(address)
        try:
            joined = _init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"no Ray cluster at {address} (one that requires a token needs RAY_AUTH_MODE=token): {why}"
            ) from None
        watch(own_ray=False)
        if dashboard:
            _show_dashboard(joined.dashboard_url)
        return False
    log.info("starting Ray (about 10 s)")
    own = cores()
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # meant: one per core
    store = {"object_store_memory": STREAM_STORE_BYTES * own} if streams else {}
    cpus = own + OWN_STEPS + 1
    try:
        started = _init(address="local", num_cpus=cpus, include_dashboard=dashboard, **store, **quiet)
    except OSError as error:
        raise _cannot_start(error) from None
    watch(own_ray=True)
    if dashboard:
        _show_dashboard(started.dashboard_url)
    return True


def _init(**options: Any) -> Any:
    """ray.init that keeps the SIGTERM handler and hides the line that Ray's C++ prints on its log level."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    saved = os.dup(2)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            return ray.init(**options)
        except SystemExit:  # raised by Ray's own SIGTERM handler while it starts
            if callable(handler):
                handler(signal.SIGTERM, None)
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            printed.seek(0)
            for line in printed:
                if b"Set ray log level from" not in line:
                    sys.stderr.write(line.decode(errors="replace"))
            if main:
                signal.signal(signal.SIGTERM, handler)


def _cannot_start(error: OSError) -> InputError | Stopped:
    if (way := disk_problem(error)) is not None and "read-only" not in way:
        return Stopped(f"Ray's temporary folder: {way}, or set RAY_TMPDIR to another")
    why = " ".join(str(error).split())
    if "AF_UNIX" in why:
        return InputError(
            f"TMPDIR or RAY_TMPDIR is too long for the sockets of Ray; set RAY_TMPDIR=/tmp ({why})"
        )
    return InputError(f"cannot start Ray, which writes to HOME and to RAY_TMPDIR, TMPDIR or /tmp: {why}")


def _show_dashboard(url: str | None) -> None:
    """Log the dashboard's address, if the cluster has one."""
    if url:
        needs_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"  # Ray sets it for a local Ray
        token = " (requires the token printed by ray get-auth-token)" if needs_token else ""
        log.info(f"dashboard: http://{url}{token}")


def cores() -> int:
    """CPU cores that this process may use: fewer than the machine has in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_nodes() -> int:
    """Number of nodes of the cluster that are alive and accept tasks."""
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def pools(
    config: EncoderOptions, resources: Mapping[str, float], nodes: int, models: Sequence[str] = ()
) -> list[Pool]:
    """The pools of a run on a cluster; InputError that names what is missing if they do not fit.

    models: names of the models needed; by default all of the configuration's.
    """
    models = tuple(models or config.models)
    groups = [models] if config.pools == "shared" else [(model,) for model in models]
    gpus = resources.get("GPU", 0)
    num_gpus = config.gpus_per_encoder
    if num_gpus is None:
        num_gpus = 0 if not gpus else 1 if gpus >= len(groups) else gpus / len(groups)
    if 1 < num_gpus != int(num_gpus):
        raise InputError(f"--gpus-per-encoder {num_gpus:g}: a fraction below 1, or a whole number")
    usual = max(1, _room(gpus, num_gpus) // len(groups)) if num_gpus else max(1, nodes)
    size = config.encoders or (usual,)
    num_cpus = config.cpus_per_encoder
    if num_cpus is None:  # on a small cluster the actors leave the logical CPUs to the steps that feed them
        num_cpus = 1.0 if resources.get("CPU", 0) > size[0] * len(groups) + OWN_STEPS else 0.0
    threads = 1 if num_gpus else max(1, cores() if nodes == 1 else int(num_cpus))
    wanted = [Pool(group, size[0], size[-1], num_cpus, num_gpus, threads) for group in groups]
    _check(wanted, resources)
    return wanted


def _room(gpus: float, num_gpus: float) -> int:
    """How many actors fit on the GPUs: a fraction cannot span two of them."""
    return int(int(1 / num_gpus) * gpus) if num_gpus < 1 else int(gpus / num_gpus)


def _check(wanted: list[Pool], resources: Mapping[str, float]) -> None:
    actors = sum(pool.min_size for pool in wanted)
    gpus, cpus = (sum(getattr(p, kind) * p.min_size for p in wanted) for kind in ("num_gpus", "num_cpus"))
    if gpus and actors > _room(resources.get("GPU", 0), wanted[0].num_gpus):
        raise InputError(
            f"{actors} encoder actors need {gpus:g} GPUs, the cluster has {resources.get('GPU', 0):g}; "
            "lower --encoders or --gpus-per-encoder (0 runs them on CPUs)"
        )
    if cpus + FEWEST_CPUS > resources.get("CPU", 0):
        raise InputError(
            f"{actors} encoder actors and the steps that feed them need {cpus + FEWEST_CPUS:g} logical CPUs, "
            f"the cluster has {resources.get('CPU', 0):g}; lower --encoders or --cpus-per-encoder, or start "
            "Ray with more (ray start --num-cpus)"
        )
