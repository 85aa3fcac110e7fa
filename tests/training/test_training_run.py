"""Requested cluster resources, and resolution of --init."""

import os
from pathlib import Path

import pytest

from tests.training.training_support import config_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.training.run import _placed, scaling_for


def test_workers_get_a_cpu_or_a_gpu_each(tmp_path: Path) -> None:
    on_cpu = scaling_for(config_of(tmp_path, workers=2), {"CPU": 4.0})
    assert (on_cpu.num_workers, on_cpu.use_gpu, on_cpu.resources_per_worker) == (2, False, {"CPU": 1.0})
    on_gpu = scaling_for(config_of(tmp_path, workers="1,4"), {"CPU": 4.0, "GPU": 2.0})
    assert (on_gpu.num_workers, on_gpu.use_gpu) == ((1, 4), True)
    assert on_gpu.resources_per_worker == {"CPU": 1.0, "GPU": 1.0}
    kept_off = scaling_for(config_of(tmp_path, gpus_per_worker=0), {"CPU": 4.0, "GPU": 2.0})
    assert not kept_off.use_gpu


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"workers": 5},
            "5 workers need 5 logical CPUs, the cluster has 4; lower --workers or --cpus-per-worker",
        ),
        ({"workers": 3, "gpus_per_worker": 1}, "3 workers need 3 GPUs, the cluster has 2"),
        ({"workers": "5,8"}, "5 workers need 5 logical CPUs"),
    ],
)
def test_too_few_cluster_resources_are_rejected(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scaling_for(
            config_of(tmp_path, **options), {"CPU": 4.0, "GPU": 2.0} if "gpus" in str(options) else {"CPU": 4}
        )


def test_local_start_is_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _placed("classifier:model") == _placed("model") == os.path.join(os.getcwd(), "model")
    assert _placed("microsoft/wavlm-large") == "microsoft/wavlm-large"
    assert _placed("") == ""
