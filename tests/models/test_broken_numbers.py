"""Checkpoints and classes whose numbers cannot be right are refused when they are loaded."""

import math
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_pooled import write_pooled
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.catalog import ModelSpec, load
from zsfuse_ray.models.untrained import untrained_alm, untrained_dual, untrained_specialist

WRITTEN = {
    "clap": untrained_alm,
    "dual": untrained_dual,
    "classifier": untrained_specialist,
    "pooled": write_pooled,
    "pooled-alm": write_pooled,
}
SCALE_OF = {"clap": "logit_scale_a", "dual": "logit_scale", "pooled-alm": "logit_scale"}


@pytest.fixture
def changed(tmp_path: Path):
    """Write a family's checkpoint with one weight changed, by a part of its name; returns its spec."""

    def change(family: str, part: str, value: float) -> ModelSpec:
        WRITTEN[family](tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        name = next(name for name in weights if part in name)
        weights[name].view(-1)[-1] = value
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return ModelSpec(family, str(tmp_path))

    return change


def refused(spec: ModelSpec, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(spec)
    assert str(spec.checkpoint or spec.family) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", SCALE_OF)
@pytest.mark.parametrize("value", [60_000.0, 20.0, -30.0])  # its logarithm is stored
def test_an_absurd_logit_scale_is_refused(changed, family: str, value: float) -> None:
    refused(changed(family, SCALE_OF[family], value), r"its logit scale is \S+, expected 0\.01 to 1000")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("family", "part"),
    [
        *SCALE_OF.items(),
        ("clap", "text_projection"),
        ("dual", "text_model"),
        ("classifier", "classifier.weight"),
        ("pooled", "deviation"),
        ("pooled", "classifier.bias"),
    ],
)
def test_weights_that_are_not_finite_are_refused(changed, family: str, part: str, value: float) -> None:
    refused(changed(family, part, value), f"{part}.* values that are not finite; .*use another checkpoint")


@pytest.mark.parametrize("value", [math.log(0.02), math.log(100), math.log(900)])
def test_unusual_scales_are_valid(changed, value: float) -> None:
    assert load(changed("dual", "logit_scale", value)).scale == pytest.approx(math.exp(value), rel=1e-5)


class Theirs:
    """A third party's ALM."""

    kind, labels = "alm", None
    about = About(rate="16 kHz", window="none", dim="2", licence="theirs", checkpoints=())
    sample_rate, window, fill, same_length, licence, revision = 16_000, None, "none", False, "theirs", None
    dim, scale = 2, 10.0

    def __init__(self, checkpoint: str, device: object, dtype: torch.dtype) -> None:
        pass

    def embed_audio(self, clips: list) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]] * len(clips))

    def embed_text(self, texts: list[str]) -> tuple[torch.Tensor, list[bool]]:
        return torch.eye(2)[: len(texts)], [False] * len(texts)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        *(("scale", value, "logit scale") for value in (math.nan, math.inf, 0.0, -10.0, 60_000.0)),
        *(("sample_rate", value, "sampling rate is .* Hz") for value in (0, -1, math.nan, None, "16000")),
    ],
)
def test_numbers_of_a_third_partys_class_are_checked(monkeypatch, attribute, value, message) -> None:
    module = types.ModuleType("theirs_of.numbers")
    module.Model = type("Model", (Theirs,), {attribute: value})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "theirs_of.numbers", module)
    refused(ModelSpec("theirs_of.numbers:Model", ""), message)
