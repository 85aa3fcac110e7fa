"""The specialist's task: forward pass, trained and frozen parts, masks, invalid starts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from tests.models.tiny_models import FAMILIES
from tests.training.training_support import EMOTIONS, RATE, config_of, start, table_of, tones
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.training.loop import gradients
from zsfuse_ray.training.pretrained import HEAD
from zsfuse_ray.training.specialist import Specialist
from zsfuse_ray.training.task import Batch

TABLE = table_of([EMOTIONS[i % 3] for i in range(6)])


def batch_of(seconds: tuple[float, ...], seeds: bool = False, device: str = "cpu") -> Batch:
    clips = [
        torch.from_numpy(tones(1, (s, s), i)[0] / 32768).float().to(device) for i, s in enumerate(seconds)
    ]
    rows = np.arange(len(clips))
    return Batch(clips, rows, rows, np.zeros(len(rows), np.float32), 5 + rows if seeds else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_forward_equals_the_saved_model(family: str, tmp_path: Path) -> None:
    task = Specialist(config_of(start(tmp_path / "init", family)), TABLE)
    task.module.eval()
    task.save(tmp_path / "saved", {})
    saved = Classifier(str(tmp_path / "saved"))
    assert saved.labels == task.labels == EMOTIONS
    assert (saved.sample_rate, saved.window, saved.same_length) == (
        task.sample_rate,
        task.window,
        task.same_length,
    )
    seconds = (0.9, 0.9, 0.9) if task.same_length else (0.9, 0.3, 0.01)
    batch = batch_of(seconds)
    np.testing.assert_allclose(task.outputs(batch).detach(), saved.classify(batch.clips)[0], atol=1e-5)


def test_saved_in_float16_predictions_are_close(tmp_path: Path) -> None:
    task = Specialist(config_of(start(tmp_path / "init"), half=True), TABLE)
    task.module.eval()
    task.save(tmp_path / "saved", {})
    whole = sum(p.numel() for p in task.module.model.parameters())
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < 2.2 * whole + 20_000
    batch = batch_of((0.5, 0.8))
    logits = Classifier(str(tmp_path / "saved")).classify(batch.clips)[0]
    np.testing.assert_allclose(task.outputs(batch).detach(), logits, atol=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_seed_determines_the_weights(family: str, tmp_path: Path) -> None:
    init = start(tmp_path, family)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))
        weights.append(dict(Specialist(config_of(init, seed=seed), TABLE).module.model.named_parameters()))
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    head = "classifier.weight" if family != "ast" else "classifier.dense.weight"
    assert not torch.equal(weights[0][head], weights[2][head])


def trained_start(folder: Path, family: str = "wavlm") -> Path:
    """A checkpoint with weights and three labels of its own."""
    torch.manual_seed(3)
    model, extractor = FAMILIES[family]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def test_pretrained_weights_are_kept_and_the_head_is_new(tmp_path: Path) -> None:
    init = trained_start(tmp_path)
    table = table_of(["angry", "happy", "sad", "neutral"])
    task = Specialist(config_of(init), table)
    torch.manual_seed(3)
    before = dict(FAMILIES["wavlm"]()[0].named_parameters())
    named = dict(task.module.model.named_parameters())
    assert all(torch.equal(named[n], p) for n, p in before.items() if not n.startswith("classifier"))
    assert named["classifier.weight"].shape[0] == 4
    frozen = {n for n, p in named.items() if not p.requires_grad}
    assert frozen == {n for n in named if ".feature_extractor." in n or "masked_spec_embed" in n}
    scratch = Specialist(config_of(init, from_scratch=True), table)
    name = "wavlm.encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(dict(scratch.module.model.named_parameters())[name], before[name])
    assert not scratch.trained


@pytest.mark.parametrize("family", ["wavlm", "wav2vec2", "whisper"])
def test_new_layer_weights_are_equal(family: str, tmp_path: Path) -> None:
    """transformers leaves those that a checkpoint of an encoder lacks as uninitialised memory."""
    init = trained_start(tmp_path, family)
    weights = load_file(init / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if name != "layer_weights"}
    save_file(kept, init / "model.safetensors", metadata={"format": "pt"})
    used = [torch.full((3,), 7.0) for _ in range(100)]
    del used  # so that memory is not zero by chance
    task = Specialist(config_of(init, weighted_layers=True), TABLE)
    torch.testing.assert_close(task.module.model.layer_weights.detach(), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("from_scratch", [True, False])
def test_float16_start_is_trained_in_float32(from_scratch: bool, tmp_path: Path) -> None:
    init = trained_start(tmp_path)
    settings = json.loads((init / "config.json").read_text())
    (init / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))
    task = Specialist(config_of(init, from_scratch=from_scratch), table_of(["angry", "happy"]))
    assert {weight.dtype for weight in task.module.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_adapters_are_trained_and_then_merged(family: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    task = Specialist(config_of(trained_start(tmp_path / "init", family), lora_rank=2), TABLE)
    before = {n: p.clone() for n, p in task.module.model.named_parameters()}
    optimiser = torch.optim.AdamW([g | {"lr": 0.05} for g in task.groups()])
    batch = batch_of((0.9, 0.9, 0.9))
    task.module.train()
    for _ in range(2):  # at first the second matrix is zero, and the first has no gradient
        gradients(task.module, [(batch, True)])
        learning = {n: p.grad for n, p in task.module.model.named_parameters() if p.requires_grad}
        optimiser.step()
        optimiser.zero_grad()
    assert all(g is not None and g.abs().max() > 0 for g in learning.values()), learning
    assert all("lora_" in n or n.startswith(HEAD) for n in learning)
    assert sum("lora_A" in n for n in learning) >= 4
    for name, parameter in task.module.model.named_parameters():
        assert name in learning or torch.equal(parameter, before[name])
    task.module.eval()
    task.save(tmp_path / "saved", {})
    saved = Classifier(str(tmp_path / "saved"))
    np.testing.assert_allclose(task.outputs(batch).detach(), saved.classify(batch.clips)[0], atol=1e-4)
    assert task.adapted.active_adapters  # saving leaves the training model unchanged


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    init = start(tmp_path, "wav2vec2-bert")
    found = []
    for checkpointing in (False, True):
        task = Specialist(config_of(init, gradient_checkpointing=checkpointing), TABLE)
        torch.manual_seed(0)  # same dropout
        gradients(task.module.train(), [(batch_of((0.9, 0.5)), True)])
        found.append({n: p.grad for n, p in task.module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        np.testing.assert_allclose(found[1][name], gradient, atol=1e-6, err_msg=name)


def test_masks_apply_only_in_training(tmp_path: Path) -> None:
    for family in FAMILIES:
        has_bands = family in ("whisper", "ast", "wav2vec2-bert", "wav2vec2-bert-stride-4")
        masked = {"time_masks": 3} | ({"frequency_masks": 2} if has_bands else {})
        task = Specialist(config_of(start(tmp_path / family, family), **masked), TABLE)
        task.module.eval()
        plain, hidden = (task.module.logits(batch_of((0.9, 0.9), seeds)) for seeds in (False, True))
        assert not torch.allclose(plain, hidden, atol=1e-4), family
        again = task.module.logits(batch_of((0.9, 0.9), True))
        assert torch.equal(again, hidden), family


def test_masks_use_the_hop_of_the_front_end(tmp_path: Path) -> None:
    """One second at a hop of 20 ms is 50 frames: masks lie within them and have the requested length."""
    folder = start(tmp_path, "whisper")
    WhisperFeatureExtractor(chunk_length=4, hop_length=320).save_pretrained(folder)
    task = Specialist(config_of(folder, time_masks=1, time_mask_s=0.4), TABLE)
    longest = 0
    for seed in range(40):
        values = torch.rand(1, 80, 200)
        before = values.clone()
        task.module._mask({"input_features": values}, [torch.zeros(RATE)], np.array([seed]))
        hidden = np.flatnonzero((values != before)[0].any(dim=0).numpy())
        assert not len(hidden) or int(hidden.max()) < 50
        longest = max(longest, len(hidden))
    assert longest == 20


def test_labels_absent_from_a_corpus_are_not_predicted_for_it(tmp_path: Path) -> None:
    table = table_of(["angry", "happy", "sad", "angry", "happy"], corpora=["a", "a", "a", "b", "b"])
    task = Specialist(config_of(start(tmp_path), mask_unknown=True), table)
    outputs = np.array([[0, 1, 9], [0, 1, 9]], np.float32)
    figures = task.metrics(outputs, np.array([2, 4]))  # sad of a; happy of b, which has no sad
    assert figures == {"dev_ua": 1.0, "dev_macro_f1": 1.0}
    figures = task.metrics(outputs, np.array([1, 4]))
    assert figures["dev_ua"] == 0.5


LARGE = {
    "wavlm-large": (
        WavLMConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
            feat_extract_norm="layer", do_stable_layer_norm=True,
        ),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
        315_000_000, 24,
    ),
    "whisper-large": (
        WhisperConfig(
            d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120,
            num_mel_bins=128, decoder_layers=32, decoder_attention_heads=20, decoder_ffn_dim=5120,
        ),
        WhisperFeatureExtractor(feature_size=128),
        635_000_000, 32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("lora", [0, 8])
@pytest.mark.parametrize("name", LARGE)
def test_full_size_models_run_one_step(name: str, lora: int, tmp_path: Path) -> None:
    """On the meta device: shapes, groups, freezing, adapters, checkpointing, gradients, without numbers."""
    config, extractor, parameters, layers = LARGE[name]
    config.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    options = {
        "freeze": "features",
        "layer_decay": 0.9,
        "gradient_checkpointing": True,
        "weighted_layers": True,
    }
    with torch.device("meta"):
        task = Specialist(config_of(tmp_path, lora_rank=lora, **options), TABLE)
        model = task.module.model
        if not lora:
            assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.03)
        groups = task.groups()
        rates = {g["lr"] for g in groups}
        assert len(rates) == layers if lora else len(rates) in (layers, layers + 1)
        learning = {n for n, p in model.named_parameters() if p.requires_grad}
        assert not any("conv_layers" in n or ".conv1." in n for n in learning)
        if lora:
            assert sum("lora_A" in n for n in learning) >= 2 * layers
        task.module.features.to("meta")
        loss, _ = task.module.train()(batch_of((1.0, 2.0), device="meta"))
        loss.backward()
        got = {n for n, p in model.named_parameters() if p.grad is not None}
        assert got <= learning
        # transformers' weighted sum of WavLM's layers omits the final norm
        assert all(n.startswith("wavlm.encoder.layer_norm.") for n in learning - got)
        torch.optim.AdamW(groups).step()


def error_of(init: Path, **options: object) -> str:
    config = config_of(init, **options)
    try:
        Specialist.check(config, TABLE)
        Specialist(config, TABLE)
    except InputError as error:
        return str(error)
    return "nothing"


def test_invalid_starts(tmp_path: Path) -> None:
    assert "no such checkpoint folder" in error_of(tmp_path / "nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"}))
    assert "no audio classifier of model_type 'clap'" in error_of(tmp_path)
    init = trained_start(tmp_path / "wavlm")
    assert "is waveforms" in error_of(init, frequency_masks=1)
    whisper = trained_start(tmp_path / "ast", "ast")
    assert "no weighted sum" in error_of(whisper, weighted_layers=True)


def test_weights_of_another_model_are_rejected(tmp_path: Path) -> None:
    init = trained_start(tmp_path / "init", "hubert")
    (tmp_path / "wavlm").mkdir()
    other = trained_start(tmp_path / "wavlm", "wavlm")
    (other / "model.safetensors").write_bytes((init / "model.safetensors").read_bytes())
    assert "the weights lack wavlm." in error_of(other)


def test_silence_gives_a_finite_loss(tmp_path: Path) -> None:
    task = Specialist(config_of(start(tmp_path)), TABLE)
    rows = np.arange(2)
    batch = Batch([torch.zeros(RATE), torch.zeros(5)], rows, rows, np.zeros(2, np.float32))
    loss, _ = gradients(task.module.train(), [(batch, True)])
    assert np.isfinite(loss)
