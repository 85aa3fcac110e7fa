"""The fusion's task: what it trains, and that the saved folder labels as the trained module does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.meta import logits_and_vectors, meta_batch, meta_specialist
from tests.training.test_specialist import batch_of
from tests.training.training_support import EMOTIONS, config_of, start, table_of
from zsfuse_ray.archive.wanted import identity
from zsfuse_ray.config.fusion import ModelOf, read_fusion
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.concat import zero_shot_scores
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.models.catalog import ModelSpec
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.networks.clsp import ClspNetwork, clsp_sizes
from zsfuse_ray.training.fusion import TEMPERATURE, ConcatLayer, Fusion
from zsfuse_ray.training.loop import gradients

TABLE = table_of([EMOTIONS[i % 3] for i in range(6)])


def fusion_config(folder: Path, **options) -> TrainConfig:
    given = {"task": "fusion", "alm": "dual:untrained", "templates": ("{}", "a {} voice")}
    return config_of(start(folder / "init"), **(given | options))


@pytest.mark.parametrize("options", [{}, {"scores": "cosine", "per_prompt": True, "audio_repeats": (2,)}])
def test_the_saved_folder_computes_the_same(tmp_path: Path, options: dict) -> None:
    """The NumPy fusion of the saved vectors and zero-shot scores equals the module's softmax."""
    task = Fusion(fusion_config(tmp_path, **options), TABLE)
    torch.manual_seed(0)
    for parameter in task.module.concat.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # so that gains and offsets count
    task.module.eval()
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved", {TEMPERATURE: 2.0})
    saved, specialist = read_fusion(str(tmp_path / "saved")), Classifier(str(tmp_path / "saved"))
    batch = batch_of((0.9, 0.4, 0.6))
    with torch.no_grad():
        fused, own = task.outputs(batch).numpy().astype(float)[:, :3], task.outputs(batch).numpy()[:, 3:]
        scores = task.module.zero_shot(batch.clips).numpy()
    logits, vectors = specialist.classify(batch.clips)
    np.testing.assert_allclose(logits.numpy(), own, atol=1e-5)
    assert vectors is not None
    np.testing.assert_allclose(saved.concat.predict(vectors, scores), softmax(fused / 2.0), atol=1e-5)
    assert saved.options.labels == specialist.labels == EMOTIONS
    of_folder = ModelSpec("classifier", str(tmp_path / "saved"))
    assert saved.models["specialist"] == ModelOf(name=str(of_folder), identity=identity(of_folder))
    assert saved.concat.per_prompt == bool(options.get("per_prompt"))


def test_scores_are_those_of_the_model(tmp_path: Path) -> None:
    """Two copies, brute force: the tiled clip through the model's own tower, cosines with its prompts."""
    task = Fusion(fusion_config(tmp_path, audio_repeats=(2,)), TABLE)
    zero_shot, clips = task.module.zero_shot, batch_of((0.7, 0.5)).clips
    for clip, found in zip(clips, zero_shot(clips), strict=True):
        audio = zero_shot.model.embed_audio([torch.cat([clip, clip])[: zero_shot.model.window]])
        expected = zero_shot_scores(audio.numpy(), zero_shot.text, zero_shot.model.scale)
        np.testing.assert_allclose(found, expected[0], atol=1e-4)


def test_the_specialists_own_head_does_not_move_its_encoder(tmp_path: Path) -> None:
    """The encoder's gradient is that of the fusion's loss alone; both heads learn, the ALM does not."""
    task = Fusion(fusion_config(tmp_path), TABLE)
    task.module.eval()  # no dropout
    batch = batch_of((0.9, 0.9, 0.9))
    gradients(task.module, [(batch, True)])
    both = {name: p.grad.clone() for name, p in task.module.named_parameters() if p.grad is not None}
    task.module.zero_grad()
    fused = task.module.logits(batch)[:, :3]
    loss, weight = super(type(task.module), task.module).losses(fused, batch)
    (loss / weight).backward()
    alone = {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}
    for name, grad in both.items():
        if not name.startswith("model.classifier"):
            np.testing.assert_allclose(grad, alone[name], atol=1e-5, err_msg=name)
    assert any(name.startswith("model.classifier") and grad.abs().max() > 0 for name, grad in both.items())
    assert any(name.startswith("concat.linear") for name in both)
    assert all(p.grad is None for p in task.module.zero_shot.model.network.parameters())
    trained = {id(p) for group in task.groups() for p in group["params"]}
    assert trained == {id(p) for p in task.module.parameters() if p.requires_grad}


def test_metrics_are_of_the_fusion(tmp_path: Path) -> None:
    task = Fusion(fusion_config(tmp_path), TABLE)
    targets = task.module.targets.numpy()
    right, wrong = 9.0 * np.eye(3)[targets], 9.0 * np.eye(3)[(targets + 1) % 3]
    figures = task.metrics(np.hstack([right, wrong]).astype(np.float32), np.arange(6))
    assert (figures["dev_ua"], figures["dev_specialist_ua"]) == (1.0, 0.0)
    assert figures[TEMPERATURE] < 1


def test_it_drops_inputs_only_in_training() -> None:
    torch.manual_seed(0)
    layer = ConcatLayer(8, 3, 3, dropout=0.5)
    vectors, scores = torch.randn(2, 8), torch.randn(2, 3)
    layer.train()
    assert not torch.equal(layer(vectors, scores), layer(vectors, scores))
    layer.eval()
    np.testing.assert_array_equal(layer(vectors, scores).detach(), layer(vectors, scores).detach())


def test_a_missing_alm_is_an_error_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such"):
        Fusion.check(fusion_config(tmp_path, alm=f"clap:{tmp_path}/none"), TABLE)


@pytest.mark.parametrize("name", ["wavlm-large", "hubert-large-ll60k"])
def test_full_size_models_make_a_step(name: str, tmp_path: Path) -> None:
    """The recipe of a large encoder with the fusion on it, beside CLSP of full size; without numbers."""
    with torch.device("meta"):
        clsp = ClspNetwork(clsp_sizes({}, "yfyeung/CLSP"))
        layer = ConcatLayer(256, len(EMOTIONS), len(EMOTIONS))  # attention pooling gives 256 values
    task = meta_specialist(name, tmp_path)
    _, vectors = logits_and_vectors(task, meta_batch())
    with torch.no_grad():
        audio = clsp.audio(torch.empty(2, 98, 128, device="meta"))
    text = torch.empty(len(EMOTIONS), clsp.dim, device="meta")  # prompts are embedded once, before
    scores = clsp.logit_scale.detach().exp() * audio @ text.T
    assert scores.shape == (2, len(EMOTIONS))
    targets = torch.zeros(2, dtype=torch.long, device="meta")
    torch.nn.functional.cross_entropy(layer(vectors, scores), targets).backward()
    trained = [p for p in (*task.module.parameters(), *layer.parameters()) if p.grad is not None]
    torch.optim.AdamW(trained).step()
    assert all(p.grad is not None for p in layer.parameters())
    assert sum(p.numel() for p in trained) > 300e6
    assert all(p.grad is None for p in clsp.parameters())
