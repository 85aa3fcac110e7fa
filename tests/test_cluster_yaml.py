"""cluster.yaml is valid by Ray's schema and consistent with pyproject.toml; AWS is not contacted."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from zsfuse_ray.config.options import build
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.runs.cluster import OWN_STEPS, pools

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def images(config: dict[str, Any]) -> set[str]:
    docker = config["docker"]
    types = config["available_node_types"].values()
    return {
        docker["image"],
        docker["head_image"],
        *(t["docker"]["worker_image"] for t in types if "docker" in t),
    }


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared = util.prepare_config(copy.deepcopy(config))
    util.validate_config(prepared)
    prepared["docker"]["colour"] = "red"
    with pytest.raises(Exception, match="colour"):  # the schema is really checked
        util.validate_config(prepared)


def test_images_match_ray_and_python_of_pyproject(config: dict[str, Any], project: dict[str, Any]) -> None:
    needed = next(Requirement(line) for line in project["dependencies"] if Requirement(line).name == "ray")
    lowest = next(spec.version for spec in needed.specifier if spec.operator == ">=")
    tags = [re.fullmatch(r"rayproject/ray:([\d.]+)-py(\d)(\d+)-(cpu|gpu)", image) for image in images(config)]
    assert len(tags) == 2
    for tag in tags:
        assert tag is not None
        ray, major, minor, _ = tag.groups()
        assert needed.specifier.contains(ray)
        assert ray.startswith(f"{lowest}.")
        assert SpecifierSet(project["requires-python"]).contains(f"{major}.{minor}")


def test_only_workers_are_on_spot(config: dict[str, Any]) -> None:
    for name, node_type in config["available_node_types"].items():
        market = node_type["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on demand")
        assert market == ("on demand" if name == config["head_node_type"] else "spot")


def test_a_run_fits_on_the_minimum_cluster(config: dict[str, Any]) -> None:
    """The pools of the command at the top of the file are accepted before any other node is up."""
    resources: dict[str, float] = {}
    for name, node_type in config["available_node_types"].items():
        number = 1 if name == config["head_node_type"] else node_type["min_workers"]
        for kind, amount in node_type["resources"].items():
            resources[kind] = resources.get(kind, 0) + number * amount
    options = build(ScoreConfig, {"input": "demo", "output": "out", "encoders": "1,8"})
    (pool,) = pools(options, resources, nodes=2)
    assert (pool.min_size, pool.max_size, pool.num_gpus) == (1, 8, 1)
    assert resources["CPU"] > OWN_STEPS
    assert config["available_node_types"]["gpu"]["max_workers"] == pool.max_size


def test_the_file_contains_no_secret() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws_secret|aws_access_key|password", text, re.I)


def test_every_node_requires_the_token(config: dict[str, Any]) -> None:
    starts = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
