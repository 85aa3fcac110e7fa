"""The README's section "On a cluster" as written, with an empty home folder and results beside the code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.jobs.jobs_support import ROOT, free_ports, tables, wait_for

LIMIT_BYTES = 600 << 20  # Ray refuses an upload of more than 512 MiB
UPLOADED = {"jobs", "zsfuse_ray", "pyproject.toml", "cluster.yaml", "mine.yaml"}


def recipe() -> list[str]:
    """The commands of the section's code block, in order, as shell lines."""
    section = (ROOT / "README.md").read_text().split("\n## On a cluster\n")[1].split("\n## ")[0]
    return section.split("```\n")[1].replace("\\\n", " ").splitlines()


def shell(command: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Run a line in a shell."""
    return subprocess.run(
        command, shell=True, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as in a clone, with results of various kinds and names beside the code."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in (".gitignore", ".rayignore", "pyproject.toml", "cluster.yaml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("jobs", "zsfuse_ray"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mine.yaml").write_text("weight: 0.4\n")
    (folder / "zsfuse_ray" / "__pycache__").mkdir()
    (folder / "zsfuse_ray" / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"old")
    results = ("labels/segments/a.parquet", "talk.wav", "jobs of mine/b.csv", ".hidden/c.flac", "more/jobs/d")
    for name in results:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(LIMIT_BYTES)  # sparse: takes no disk space
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment with an empty home folder and no variables of Ray or AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    kept.pop("PYTHONPATH", None)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"HOME": str(tmp_path_factory.mktemp("home")), "PATH": programs}


@pytest.fixture(scope="module")
def cluster_of_recipe(
    checkout: Path, home: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], Path]]:
    """The recipe up to the cluster's start: the environment to connect to it, and Ray's temporary folder."""
    generate, start, _ = recipe()
    token = shell(generate, checkout, home)
    assert token.returncode == 0, token.stderr
    port, dashboard, agent = free_ports(3)  # another Ray on this machine may use the default ones
    temporary = Path("/tmp") / f"zs{os.getpid()}"  # short: paths of Ray's sockets are limited in length
    # --block: the cluster ends with this process group; `ray stop` would end every Ray on the machine
    start += f" --block --port={port} --dashboard-port={dashboard} --temp-dir={temporary}"
    start += f" --dashboard-agent-listen-port={agent} --disable-usage-stats"
    log = tmp_path_factory.mktemp("ray") / "log"
    with log.open("wb") as file:
        head = subprocess.Popen(
            start,
            shell=True,
            cwd=checkout,
            env=home,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )

    def ready() -> bool:
        assert head.poll() is None, log.read_text()
        return "Ray runtime started" in log.read_text()

    try:
        wait_for(ready, 300, "Ray")
        yield home | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}, temporary
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(timeout=60)
        shutil.rmtree(temporary, ignore_errors=True)


def test_the_readmes_recipe(cluster_of_recipe, checkout: Path, home: dict[str, str], tmp_path: Path) -> None:
    environment, temporary = cluster_of_recipe
    submit = recipe()[2].replace("s3://bucket/podcasts", "demo")
    submit = submit.replace("s3://bucket/labels", str(tmp_path / "out"))
    done = shell(submit, checkout, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "4 recordings" in done.stdout
    assert len(tables(tmp_path / "out")["segments"])
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["git"] is None  # the uploaded code ran, not this checkout
    token = (Path(home["HOME"]) / ".ray" / "auth_token").read_text()
    assert token not in done.stdout + json.dumps(run)

    (package,) = temporary.glob("session_2*/runtime_resources/working_dir_files/*/")
    assert {path.name for path in package.iterdir()} == UPLOADED
    code = {path.relative_to(ROOT) for name in ("jobs", "zsfuse_ray") for path in (ROOT / name).rglob("*.py")}
    assert {path.relative_to(package) for path in package.rglob("*.py")} == code


def test_jobs_without_the_token_are_refused(cluster_of_recipe, tmp_path: Path) -> None:
    environment, _ = cluster_of_recipe
    submit = re.sub("--working-dir.*", "-- true", recipe()[2])
    wrong = shell(submit, tmp_path, environment | {"RAY_AUTH_TOKEN": "0" * 64})
    none = shell(submit, tmp_path, environment | {"HOME": str(tmp_path)})
    unsent = shell(submit.replace("RAY_AUTH_MODE=token", ""), tmp_path, environment)
    for done, why in ((wrong, "Invalid"), (none, "couldn't find an auth"), (unsent, "Missing auth")):
        assert done.returncode != 0, done.stdout
        assert why in done.stdout + done.stderr, done.stdout + done.stderr
