import logging

import pytest
import ray

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.cluster import OWN_STEPS, Pool, connect, pools

CPUS = 64.0


def config(line: str = "") -> ScoreConfig:
    return parse(ScoreConfig, ["--input", "demo", "--output", "out", *line.split()], "")[0]


def shapes(found: list[Pool]) -> list[tuple]:
    """(models, fewest actors, most actors, GPUs of each)"""
    return [(pool.models, pool.min_size, pool.max_size, pool.num_gpus) for pool in found]


BOTH, ALM, SPECIALIST = ("alm", "specialist"), ("alm",), ("specialist",)


@pytest.mark.parametrize(
    ("line", "gpus", "nodes", "expected"),
    [
        ("", 0, 1, [(BOTH, 1, 1, 0)]),
        ("", 0, 5, [(BOTH, 5, 5, 0)]),
        ("", 1, 1, [(BOTH, 1, 1, 1)]),
        ("", 4, 2, [(BOTH, 4, 4, 1)]),
        ("--pools separate", 0, 1, [(ALM, 1, 1, 0), (SPECIALIST, 1, 1, 0)]),
        ("--pools separate", 1, 1, [(ALM, 1, 1, 0.5), (SPECIALIST, 1, 1, 0.5)]),
        ("--pools separate", 4, 1, [(ALM, 2, 2, 1), (SPECIALIST, 2, 2, 1)]),
        ("--pools separate --alm none", 4, 1, [(SPECIALIST, 4, 4, 1)]),
        ("--specialist none", 2, 1, [(ALM, 2, 2, 1)]),
        ("--encoders 2,4", 4, 1, [(BOTH, 2, 4, 1)]),
        ("--encoders 3", 4, 1, [(BOTH, 3, 3, 1)]),
        ("--pools separate --encoders 1,2", 4, 1, [(ALM, 1, 2, 1), (SPECIALIST, 1, 2, 1)]),
        ("--gpus-per-encoder 0.25", 1, 1, [(BOTH, 4, 4, 0.25)]),
        ("--gpus-per-encoder 0.1", 3, 1, [(BOTH, 30, 30, 0.1)]),
        ("--gpus-per-encoder 0.6", 4, 1, [(BOTH, 4, 4, 0.6)]),  # two do not fit on one GPU
        ("--gpus-per-encoder 0.6 --pools separate", 4, 1, [(ALM, 2, 2, 0.6), (SPECIALIST, 2, 2, 0.6)]),
        ("--gpus-per-encoder 2", 4, 1, [(BOTH, 2, 2, 2)]),
        ("--gpus-per-encoder 0", 4, 1, [(BOTH, 1, 1, 0)]),
    ],
)
def test_pools_fill_the_cluster(line: str, gpus: float, nodes: int, expected: list) -> None:
    assert shapes(pools(config(line), {"CPU": CPUS, "GPU": gpus}, nodes)) == expected


@pytest.mark.parametrize(
    ("line", "resources", "message"),
    [
        ("--encoders 3", {"CPU": CPUS, "GPU": 2.0}, "3 encoder actors need 3 GPUs, the cluster has 2"),
        ("--encoders 3,8", {"CPU": CPUS, "GPU": 2.0}, "3 encoder actors need 3 GPUs, the cluster has 2"),
        ("--gpus-per-encoder 1", {"CPU": CPUS}, "1 encoder actors need 1 GPUs, the cluster has 0"),
        ("--gpus-per-encoder 0.6 --encoders 3", {"CPU": CPUS, "GPU": 2.0}, "the cluster has 2"),
        (
            "--gpus-per-encoder 2 --pools separate",
            {"CPU": CPUS, "GPU": 2.0},
            "need 4 GPUs",
        ),
        ("--gpus-per-encoder 1.5", {"CPU": CPUS, "GPU": 4.0}, "--gpus-per-encoder 1.5: a fraction below 1"),
        ("", {"CPU": 1.0}, "need 2 logical CPUs, the cluster has 1"),
        ("", {"GPU": 1.0}, "the cluster has 0"),
        (
            "--encoders 4 --cpus-per-encoder 8",
            {"CPU": 32.0},
            "need 34 logical CPUs",
        ),
    ],
)
def test_pools_too_large_for_the_cluster_are_refused(
    line: str, resources: dict[str, float], message: str
) -> None:
    """Ray would wait for ever without a message."""
    with pytest.raises(InputError) as caught:
        pools(config(line), resources, 1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_minimum_number_of_logical_cpus() -> None:
    assert pools(config(), {"CPU": 2.0}, 1)[0].num_cpus == 0  # as with `ray start --head` on two cores
    assert pools(config(), {"CPU": 2.0 + OWN_STEPS}, 1)[0].num_cpus == 1
    assert pools(config("--cpus-per-encoder 1"), {"CPU": 3.0}, 1)
    with pytest.raises(InputError):
        pools(config("--cpus-per-encoder 1"), {"CPU": 2.9}, 1)


def test_threads_of_an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores on a single machine, its num_cpus on a cluster, one beside a GPU."""
    monkeypatch.setattr("zsfuse_ray.runs.cluster.cores", lambda: 12)
    resources = {"CPU": CPUS}
    assert pools(config(), resources, 1)[0].threads == 12
    assert pools(config("--cpus-per-encoder 4"), resources, 3)[0].threads == 4
    assert pools(config("--cpus-per-encoder 0"), resources, 3)[0].threads == 1
    assert pools(config(), resources | {"GPU": 1.0}, 1)[0].threads == 1


def test_ray_data_logs_to_its_file_and_not_to_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_BACKEND_LOG_LEVEL", "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS"):
        monkeypatch.setenv(name, "1")  # undoes what connect sets
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    handlers = logging.getLogger("ray.data").handlers
    file, console = (next(h for h in handlers if h.name == name) for name in ("file", "console"))
    monkeypatch.setattr(file, "level", logging.INFO)
    monkeypatch.setattr(console, "level", logging.INFO)
    monkeypatch.setattr("zsfuse_ray.runs.cluster.check_address", lambda address: None)
    monkeypatch.setattr("zsfuse_ray.runs.cluster.watch", lambda own_ray: None)
    connect("127.0.0.1:1")
    assert (file.level, console.level) == (logging.INFO, logging.CRITICAL)
