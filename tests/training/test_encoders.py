"""A pooled model as the start of a training: its encoders in stock classes, with its weights."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForAudioClassification, BertModel

from tests.models.tiny_pooled import write_pooled
from tests.training.training_support import config_of, table_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.networks.pooled import PooledNetwork
from zsfuse_ray.training.alm import Contrastive
from zsfuse_ray.training.encoders import speech_encoder, text_encoder
from zsfuse_ray.training.specialist import Specialist
from zsfuse_ray.training.start import check_start, start


@pytest.fixture(scope="module")
def pooled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pooled")
    write_pooled(folder)
    return folder


def test_speech_encoder_has_the_trunk_s_weights_and_a_shorter_window(pooled) -> None:
    found = speech_encoder(resolve(str(pooled)))
    model = AutoModelForAudioClassification.from_pretrained(found.folder)
    trunk = PooledNetwork.from_pretrained(pooled).trunk
    assert model.config.max_source_positions == 250
    for name, value in trunk.state_dict().items():
        ours = model.encoder.state_dict()[name]
        assert torch.equal(ours, value[: len(ours)])
    assert speech_encoder(resolve(str(pooled))).folder == found.folder  # written once


def test_text_encoder_has_the_model_s_weights(pooled) -> None:
    found = BertModel.from_pretrained(text_encoder(resolve(str(pooled))).folder, add_pooling_layer=False)
    ours = PooledNetwork.from_pretrained(pooled).text_model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in found.state_dict().items())


def test_other_checkpoints_are_unchanged(pooled) -> None:
    speech = speech_encoder(resolve(str(pooled)))
    assert speech_encoder(speech) is speech


@pytest.mark.parametrize("family", ["", "pooled:"])
def test_a_specialist_starts_from_it(pooled, family) -> None:
    table = table_of(["sad", "happy", "angry"])
    config = config_of(Path(f"{family}{pooled}"))
    assert Specialist.check(config, table) == 16_000
    task = Specialist(config, table)
    assert task.window == 80_000
    trunk = PooledNetwork.from_pretrained(pooled).trunk
    weights = dict(task.module.named_parameters())
    name = next(name for name in weights if name.endswith("encoder.conv1.weight"))
    assert torch.equal(weights[name], trunk.conv1.weight)


@pytest.mark.parametrize("family", ["", "pooled-alm:"])
def test_an_alm_starts_from_it_with_its_own_text_encoder(pooled, family) -> None:
    config = config_of(Path(f"{family}{pooled}"), task="alm")
    assert check_start(config) == 16_000
    alm = start(config).alm
    network = PooledNetwork.from_pretrained(pooled)
    assert torch.equal(alm.network.audio_model.conv1.weight, network.trunk.conv1.weight)
    ours = alm.network.text_model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in network.text_model.state_dict().items())
    assert Contrastive.check(config, table_of(["sad", "happy"])) == 16_000


def test_its_speech_encoder_alone_needs_a_text_encoder(pooled) -> None:
    speech = speech_encoder(resolve(str(pooled))).folder
    with pytest.raises(InputError, match="give a text encoder with --text"):
        check_start(config_of(speech, task="alm"))
    assert check_start(config_of(speech, task="alm", text=str(pooled))) == 16_000
