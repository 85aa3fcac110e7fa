"""Learning rates by layer, the schedule and the average of weights, verified against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.models.tiny_models import FAMILIES
from zsfuse_ray.training.optimiser import Average, depths, layerwise_groups, learned, lr_factor
from zsfuse_ray.training.pretrained import HEAD


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_a_lower_rate_than_the_next(family: str) -> None:
    model, _ = FAMILIES[family]()
    groups = layerwise_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5, head=HEAD, head_lr=7.0)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert rate.keys() == {id(p) for p in named.values()}
    seen = set()
    for name, parameter in named.items():
        lr, decay = rate[id(parameter)]
        assert decay == (0.1 if parameter.ndim > 1 else 0.0)
        if name.startswith(HEAD):
            expected = 7.0
        elif "conv_layers" not in name and ("layers.1." in name or "layer.1." in name):
            expected = 1.0
        elif "conv_layers" not in name and ("layers.0." in name or "layer.0." in name):
            expected = 0.5
        elif "encoder.layer_norm" in name:
            expected = 1.0  # after the last layer
        else:
            expected = None if "layernorm" in name else 0.25
        if expected is not None:
            assert lr == expected, name
            seen.add(expected)
    assert seen == {7.0, 1.0, 0.5, 0.25}


def test_depth_counts_from_the_first_layer() -> None:
    names = [
        "wavlm.feature_extractor.conv_layers.3.conv.weight",
        "wavlm.encoder.layers.23.fc.weight",
        "classifier.bias",
    ]
    assert list(depths(names, HEAD).values()) == [0, 24, 25]


@given(st.floats(0, 0.9).map(lambda x: round(x, 3)), st.floats(0, 1))
def test_the_schedule_rises_and_falls(warmup: float, final: float) -> None:
    assert lr_factor(warmup, warmup, final) == pytest.approx(1.0)
    assert lr_factor(1.0, warmup, final) == pytest.approx(final)
    middle = warmup + (1 - warmup) / 2
    assert lr_factor(middle, warmup, final) == pytest.approx((1 + final) / 2)
    quarter = warmup + (1 - warmup) / 4
    assert lr_factor(quarter, warmup, final) == pytest.approx(final + (1 - final) * (1 + math.sqrt(0.5)) / 2)
    if warmup:
        assert lr_factor(warmup / 2, warmup, final) == pytest.approx(0.5)


def test_average_equals_its_formula() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    average = Average(module, 0.5)
    expected = module[0].weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            module[0].weight.fill_(float(step))
            module[1].running_mean.fill_(float(step))  # pyright: ignore
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.values["0.weight"], expected)
    assert average.values["1.running_mean"][0] > 3
    with average.in_place():
        assert torch.allclose(module[0].weight, expected)
    assert (module[0].weight == 5).all()


def test_frozen_weights_are_not_in_a_checkpoint() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    assert set(learned(module)) == {"1.weight", "1.bias"}
