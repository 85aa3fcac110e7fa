"""The recipes of the published encoders: options, a step of tiny and of full-size models, what is saved."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from tests.training.meta import ENCODERS, logits_and_vectors, meta_batch, meta_specialist, recipe
from tests.training.training_support import EMOTIONS, config_of, start, table_of, tones
from zsfuse_ray.config.options import parse
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.training.loop import gradients
from zsfuse_ray.training.pretrained import HEAD
from zsfuse_ray.training.specialist import Specialist
from zsfuse_ray.training.task import Batch

TABLE = table_of([EMOTIONS[i % 3] for i in range(6)])
OWNERS = {"wavlm": "microsoft", "hubert": "facebook"}


def kind(name: str) -> str:
    """The model_type of a recipe's encoder."""
    return name.partition("-")[0]


def batch() -> Batch:
    """Six clips of one length, the rows of TABLE, with seeds for masks."""
    clips = [torch.from_numpy(samples / 32768).float() for samples in tones(6, (0.9, 0.9))]
    rows = np.arange(6)
    return Batch(clips, rows, rows, np.zeros(6, np.float32), 5 + rows)


def encoder(folder: Path, name: str) -> Path:
    """A folder with the weights of a tiny encoder without a head, normalised like the recipe's."""
    is_large = "large" in name
    norms = {"feat_extract_norm": "layer" if is_large else "group", "do_stable_layer_norm": is_large}
    start(folder, kind(name), **norms, use_weighted_layer_sum=False)
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ENCODERS)
def test_recipe_names_its_encoder_and_is_shown(name: str, capsys: pytest.CaptureFixture) -> None:
    words = ["--preset", name, "--train", "c.csv", "--output", "model"]
    config, _ = parse(TrainConfig, words, "")
    assert config.init == f"{OWNERS[kind(name)]}/{name}"
    assert config.attention_pooling
    assert config.weighted_layers
    assert not config.lora_rank
    adapted, _ = parse(TrainConfig, [*words, "--lora-rank", "16", "--init", "folder"], "")
    assert (adapted.lora_rank, adapted.init) == (16, "folder")
    with pytest.raises(SystemExit):
        parse(TrainConfig, ["--preset", name, "--help"], "")
    assert config.init in capsys.readouterr().out


@pytest.mark.parametrize("lora", [0, 2])
@pytest.mark.parametrize("name", ENCODERS)
def test_trained_tiny_encoder_is_a_specialist_with_vectors(name: str, lora: int, tmp_path: Path) -> None:
    if lora:
        pytest.importorskip("peft")
    task = Specialist(config_of(encoder(tmp_path / "init", name), **recipe(name), lora_rank=lora), TABLE)
    before = copy.deepcopy(dict(task.module.model.named_parameters()))
    optimiser = torch.optim.AdamW([g | {"lr": 0.01} for g in task.groups()])
    for _ in range(2):  # LoRA's first matrices have a gradient from the second step on
        optimiser.zero_grad()
        loss, _ = gradients(task.module.train(), [(batch(), True)])
        optimiser.step()
    assert np.isfinite(loss)
    learned = {n for n, p in task.module.model.named_parameters() if not torch.equal(p, before[n])}
    assert {"pooling.hidden.weight", "pooling.score.weight", "layer_weights"} <= learned
    assert any("layers.0." in n for n in learned)
    assert not lora or all("lora_" in n or n.startswith(HEAD) for n in learned)
    assert not any("conv_layers" in n for n in learned)

    task.module.eval()
    task.save(tmp_path / "saved", {})
    specialist = load(parse_spec(str(tmp_path / "saved"), "specialist"))
    assert isinstance(specialist, Classifier)
    plain = Batch(batch().clips, batch().rows, batch().partners, batch().shares)
    logits, vectors = specialist.classify(plain.clips)
    np.testing.assert_allclose(task.outputs(plain).detach(), logits, atol=1e-4)
    assert vectors is not None
    assert vectors.shape == (6, specialist.vector_dim)
    head = task.module.model.classifier
    np.testing.assert_allclose(head(vectors.clone()).detach(), logits, atol=1e-4)


def test_continued_training_keeps_the_pooling(tmp_path: Path) -> None:
    first = Specialist(config_of(encoder(tmp_path / "init", "wavlm-large"), attention_pooling=True), TABLE)
    first.save(tmp_path / "saved", {})
    second = Specialist(config_of(tmp_path / "saved"), TABLE)
    for name, weight in first.module.model.pooling.named_parameters():
        assert torch.equal(weight, dict(second.module.model.pooling.named_parameters())[name])


def test_attention_pooling_of_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="attention pooling is for wavlm, hubert, wav2vec2"):
        Specialist(config_of(start(tmp_path, "whisper"), attention_pooling=True), TABLE)


@pytest.mark.parametrize(("name", "lora"), [*((name, 0) for name in ENCODERS), ("wavlm-base-plus", 16)])
def test_full_size_recipe_makes_a_step(name: str, lora: int, tmp_path: Path) -> None:
    task = meta_specialist(name, tmp_path, lora_rank=lora)
    model = task.module.model
    if not lora:
        millions = sum(p.numel() for p in model.base_model.parameters()) / 1e6
        assert millions == pytest.approx(ENCODERS[name][1], abs=0.1)
    loss, _ = task.module(meta_batch())
    loss.backward()
    torch.optim.AdamW(task.groups()).step()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    idle = {n for n, p in model.named_parameters() if p.grad is None} & learning
    # transformers' weighted sum of the layers omits the final norm
    assert all(".encoder.layer_norm." in n for n in idle)
    logits, vectors = logits_and_vectors(task, meta_batch())
    assert (logits.shape, vectors.shape) == ((2, 3), (2, model.config.classifier_proj_size))
    assert vectors.requires_grad
