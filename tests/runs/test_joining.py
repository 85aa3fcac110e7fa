"""Arguments to ray.init and messages when a job joins or starts Ray, with ray.init replaced by a stand-in."""

import os
from types import SimpleNamespace

import pytest
import ray
import ray.exceptions

from zsfuse_ray.config import score, train, tune
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.cluster import connect


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The arguments of each call to ray.init, which is replaced and starts nothing."""
    arguments: list[dict] = []

    def init(**options):
        arguments.append(options)
        return SimpleNamespace(dashboard_url="127.0.0.1:8265")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("zsfuse_ray.runs.cluster.check_address", lambda address: None)
    monkeypatch.setattr("zsfuse_ray.runs.cluster.watch", lambda own_ray: None)
    monkeypatch.setattr(os, "environ", {"RAY_AUTH_MODE": "token"})
    return arguments


def test_local_ray_starts_its_dashboard_on_request(calls, caplog) -> None:
    caplog.set_level("INFO")
    assert connect(None)
    assert connect(None, dashboard=True, streams=True)
    assert [call["include_dashboard"] for call in calls] == [False, True]
    line = "dashboard: http://127.0.0.1:8265 (requires the token printed by ray get-auth-token)"
    assert caplog.messages == [*["starting Ray (about 10 s)"] * 2, line]


def test_joining_a_cluster_starts_nothing_on_it(calls, caplog) -> None:
    caplog.set_level("INFO")
    assert not connect("10.0.0.1:6379", dashboard=True)
    os.environ["RAY_ADDRESS"] = "10.0.0.2:6379"
    assert not connect(None, dashboard=True)
    assert [call["address"] for call in calls] == ["10.0.0.1:6379", "10.0.0.2:6379"]
    assert not any("include_dashboard" in call for call in calls)
    assert [line.startswith("dashboard: http://127.0.0.1:8265") for line in caplog.messages] == [True, True]


@pytest.mark.parametrize("error", [ConnectionError, ray.exceptions.AuthenticationError])
def test_a_failed_join_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch, calls, error) -> None:
    def init(**_):
        raise error("nobody there\nmore")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        InputError, match=r"no Ray cluster at h:1 \(.*RAY_AUTH_MODE=token\): nobody"
    ) as caught:
        connect("h:1")
    assert "\n" not in str(caught.value)


def test_every_job_with_ray_has_the_option_dashboard_which_does_not_affect_resuming() -> None:
    for kind in (score.PlanConfig, score.ScoreConfig, train.TrainConfig, tune.TuneConfig, EvaluateConfig):
        assert "dashboard" in kind.__dataclass_fields__
    for operational in (score.OPERATIONAL, train.OPERATIONAL, tune.OPERATIONAL):
        assert "dashboard" in operational
