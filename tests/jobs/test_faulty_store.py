"""Runs on an object store that throttles, breaks connections, goes away or refuses."""

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import s3fs

from tests.jobs.faulty_store import USUAL, Faults, faulty
from tests.jobs.jobs_support import lines, run_process, scored, speech, write_wav
from zsfuse_ray import stores
from zsfuse_ray.audio.decode import probe
from zsfuse_ray.audio.files import list_files
from zsfuse_ray.audio.sources import open_audio
from zsfuse_ray.runs.folder import Output

TABLES = ("segments", "recordings", "rejects")
MOST_RUNS = 4  # of the same command until it is complete: what stops one has exit code 3


@pytest.fixture(scope="module")
def store(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, str]]:
    """A store with an archive, and the environment of jobs on it."""
    files = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    fill(files, tmp_path_factory.mktemp("audio"))
    return files, {**without_ray(), **s3}


def fill(files: Any, folder: Path) -> None:
    """Put an archive into a store."""
    for n in range(4):
        files.put(str(write_wav(folder / f"{n}.wav", speech(25 + n, seed=n))), f"archive/talks/{n}.wav")
    files.pipe("archive/talks/broken.mp3", b"no audio")


def without_ray() -> dict[str, str]:
    """The environment without a cluster."""
    ray = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    return {name: value for name, value in os.environ.items() if name not in ray}


def command(output: str) -> list[str]:
    return [
        "score", "--input", "s3://archive/talks", "--output", f"s3://archive/{output}",
        "--item-s", "20", "--max-reject-rate", "1",
    ]  # fmt: skip


def tables(files: Any, output: str) -> dict[str, pd.DataFrame]:
    """The tables of a run, in a fixed order."""
    files.invalidate_cache()
    found = {}
    for name in TABLES:
        table = pq.read_table(f"archive/{output}/{name}", filesystem=files).to_pandas()
        keys = [key for key in ("recording_uri", "start_s", "reason") if key in table]
        found[name] = table.sort_values(keys).reset_index(drop=True)
    found["recordings"]["arc"] = found["recordings"]["arc"].map(tuple)
    return found


@pytest.fixture(scope="module")
def undisturbed(store) -> dict[str, pd.DataFrame]:
    """Tables of a run without faults."""
    files, environment = store
    scored(run_process(*command("calm"), env=environment))
    return tables(files, "calm")


def until_complete(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run a command until it is complete; each run that stops says how to resume. Returns the runs."""
    for runs in range(1, MOST_RUNS + 1):
        done = run_process(*arguments, env=environment)
        print(done.stderr[-3000:])
        if done.returncode == 0:
            return runs
        assert done.returncode == 3, done.stdout + done.stderr
        assert "the same command resumes" in lines(done.stderr)[-1]
        assert "Traceback" not in done.stderr
    raise AssertionError(f"not complete after {MOST_RUNS} runs")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_five_percent_of_the_requests_fail(store, undisturbed, seed: int) -> None:
    files, environment = store
    faults = Faults(seed, rate=0.05, kinds=USUAL)
    with faulty(environment, faults) as through:
        runs = until_complete(command(f"five{seed}"), through)
    print(f"{runs} runs, {faults.requests.total()} requests, {dict(faults.injected)}")
    assert faults.injected.total() > 10
    for name, table in tables(files, f"five{seed}").items():
        pd.testing.assert_frame_equal(table, undisturbed[name], check_exact=True, obj=name)
    assert runs == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", ["slow_down", "cut"])
def test_a_third_of_the_reads_of_tables_fail(store, undisturbed, kind: str) -> None:
    files, environment = store
    faults = Faults(3, rate=0.3, kinds=(kind,), only=f"GET /archive/{kind}/")
    with faulty(environment, faults) as through:
        runs = until_complete(command(kind), through)
    print(f"{runs} runs, {faults.requests.total()} requests, {dict(faults.injected)}")
    assert faults.injected.total() > 5
    for name, table in tables(files, kind).items():
        pd.testing.assert_frame_equal(table, undisturbed[name], check_exact=True, obj=name)
    assert runs == 1


@pytest.fixture
def through(store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The store behind a proxy, for this process; nothing fails until the faults are changed."""
    faults = Faults()
    with faulty(store[1], faults) as environment:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, environment[name])
        s3fs.S3FileSystem.clear_instance_cache()  # its instances keep the address of their first use
        yield faults
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("kind", ["slow_down", "internal", "reset", "cut"])
def test_audio_is_read_whole_while_requests_fail(store, through: Faults, kind: str) -> None:
    files, _ = store
    content = files.cat_file("archive/talks/1.wav")
    through.kinds, through.rate = (kind,), 0.3
    for _ in range(4):
        with open_audio("s3://archive/talks/1.wav") as file:
            assert file.read() == content
    assert through.injected.total() > 0


@pytest.mark.parametrize("kind", ["slow_down", "internal", "reset", "lost"])
def test_a_part_of_an_upload_fails(store, through: Faults, kind: str) -> None:
    """The second of three parts fails several times: the object is whole."""
    files, _ = store
    out, content = Output.open(f"s3://archive/parts-{kind}"), random.Random(0).randbytes(25 << 20)
    through.kinds, through.rate, through.only, through.most = (kind,), 1.0, "partNumber=2", 3
    out.write_bytes("large", content)
    assert through.injected[kind] == 3
    files.invalidate_cache()
    assert files.cat_file(out.path("large")) == content


def test_an_upload_that_cannot_be_completed_leaves_the_object_before(
    store, through: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = store
    monkeypatch.setattr(stores, "_TABLE_WAITS_S", (0.1,))
    out = Output.open("s3://archive/upload")
    out.write_bytes("large", b"before")
    through.kinds, through.rate, through.only = ("expired",), 1.0, "partNumber=2"
    with pytest.raises(OSError, match=r"ExpiredToken|403"):
        out.write_bytes("large", bytes(25 << 20))
    files.invalidate_cache()
    assert files.cat_file(out.path("large")) == b"before"


@pytest.mark.long
def test_many_small_objects_are_listed_in_few_requests(store, through: Faults) -> None:
    """1000 a request, as the interface allows; a header takes one, and one more for a size not listed."""
    files, _ = store
    content = files.cat_file("archive/talks/1.wav")[:4000]
    files.pipe({f"archive/many/{n:05}.wav": content for n in range(10_000)})
    through.requests.clear()
    assert len(list_files("s3://archive/many")) == 10_000
    assert through.requests.total() <= 40
    listed = through.requests.total()
    for n in range(50):
        probe(f"s3://archive/many/{n:05}.wav")
    print(f"{listed} requests to list, {(through.requests.total() - listed) / 50} for each header")
    assert through.requests.total() - listed <= 2 * 50
