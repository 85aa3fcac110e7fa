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
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The arguments of each call to ray.init, which starts nothing."""
    calls: list[dict] = []

    def init(**options):
        calls.append(options)
        return SimpleNamespace(dashboard_url="127.0.0.1:8265")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(os, "environ", {"RAY_AUTH_MODE": "token"})
    return calls


def test_an_own_ray_has_a_dashboard_where_it_is_wanted(asked, caplog) -> None:
    caplog.set_level("INFO")
    assert connect(None)
    assert connect(None, dashboard=True, streams=True)
    assert [call["include_dashboard"] for call in asked] == [False, True]
    line = "dashboard: http://127.0.0.1:8265 (it asks for the token that ray get-auth-token prints)"
    assert caplog.messages == [*["starting Ray (about 10 s)"] * 2, line]


def test_a_cluster_that_is_joined_is_asked_for_nothing(asked, caplog) -> None:
    caplog.set_level("INFO")
    assert not connect("10.0.0.1:6379", dashboard=True)
    os.environ["RAY_ADDRESS"] = "10.0.0.2:6379"
    assert not connect(None, dashboard=True)
    assert [call["address"] for call in asked] == ["10.0.0.1:6379", "10.0.0.2:6379"]
    assert not any("include_dashboard" in call for call in asked)
    assert [line.startswith("dashboard: http://127.0.0.1:8265") for line in caplog.messages] == [True, True]


@pytest.mark.parametrize("error", [ConnectionError, ray.exceptions.AuthenticationError])
def test_a_cluster_that_cannot_be_joined_is_one_line(monkeypatch: pytest.MonkeyPatch, asked, error) -> None:
    def init(**_):
        raise error("nobody there\nmore")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        InputError, match=r"no Ray cluster at h:1 \(.*RAY_AUTH_MODE=token\): nobody"
    ) as caught:
        connect("h:1")
    assert "\n" not in str(caught.value)


def test_every_job_that_starts_ray_may_show_it_and_resumes_all_the_same() -> None:
    for kind in (score.PlanConfig, score.ScoreConfig, train.TrainConfig, tune.TuneConfig, EvaluateConfig):
        assert "dashboard" in kind.__dataclass_fields__
    for operational in (score.OPERATIONAL, train.OPERATIONAL, tune.OPERATIONAL):
        assert "dashboard" in operational
