"""Contrastive training of both families, without Ray: gradients, freezing, saving, invalid input."""

import copy
import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import AutoModel

from tests.models.tiny_duals import AUDIO, TEXT, write_dual
from tests.training.training_support import EMOTIONS, RATE, clips_of, config_of, in_processes, table_of, tones
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.untrained import byte_tokenizer, untrained_alm
from zsfuse_ray.training import loop
from zsfuse_ray.training.alm import Contrastive
from zsfuse_ray.training.task import Batch

CPU = torch.device("cpu")
N = 22
ALM = {"task": "alm", "balance": 0.5}
NO_DROPOUT = {
    "audio_config": {
        "hidden_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
        "conformer_conv_dropout": 0.0, "attention_dropout": 0.0,
    },
    "text_config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}  # fmt: skip


@pytest.fixture
def duals(tmp_path):
    """Folder of a dual encoder without dropout."""
    folder = tmp_path / "dual"
    write_dual(folder, "wav2vec2-bert", "bert")
    config = json.loads((folder / "config.json").read_text())
    for part, settings in NO_DROPOUT.items():
        config[part] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def parts(tmp_path):
    """Folders of an image encoder without weights, and of a text encoder with weights."""
    torch.manual_seed(0)
    settings, extractor = AUDIO["resnet-clap"]()
    for part in (settings, extractor):
        part.save_pretrained(tmp_path / "audio")
    for part in (AutoModel.from_config(TEXT["bert"]()), byte_tokenizer()):
        part.save_pretrained(tmp_path / "text")
    return tmp_path / "audio", tmp_path / "text"


def table():
    return table_of([EMOTIONS[i % 3] for i in range(N)], ["train"] * 15 + ["dev"] * (N - 15))


def training(config) -> dict[str, Any]:
    torch.set_num_threads(1)
    task = Contrastive(config, table())
    before = {name: t.clone() for name, t in task.module.state_dict().items()}
    progress = loop.run(task, clips_of(table(), tones(N)), config, CPU, lambda figures, state: None)
    after = {name: t.detach().numpy().copy() for name, t in task.module.state_dict().items()}
    changed = {n for n, t in before.items() if not np.array_equal(t.numpy(), after[n])}
    return {"history": progress.history, "weights": after, "changed": changed, "task": task}


def gradients_of(config) -> dict[str, Any]:
    """Loss and gradients of one step over all workers."""
    torch.set_num_threads(1)
    task = Contrastive(config, table())
    is_shared = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if is_shared else (0, 1)
    rows = np.arange(9)[rank::world]
    samples = tones(N)
    batch = Batch(
        [torch.from_numpy(samples[r]).float() / 32768 for r in rows],
        rows,
        (rows + 4) % 9,
        np.where(rows % 2, 0.3, 0).astype(np.float32),
        rows + 70,
    )
    module = task.module.eval()
    if world > 1:
        module = torch.nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
    loss, weight = loop.gradients(module, [(batch, True)])
    named = task.module.named_parameters()
    return {
        "loss": loss,
        "weight": weight,
        "grads": {n: p.grad.numpy() for n, p in named if p.grad is not None},
    }


def gradients_of_all(several) -> list[dict[str, Any]]:
    """The same for each of several options."""
    return [gradients_of(config_of(**options)) for options in several]


def test_gradients_of_two_workers_are_those_of_one(duals, parts):
    """With either loss, and for encoders joined in each worker."""
    masked = {"time_masks": 1, "frequency_masks": 1}
    several = [
        ALM | masked | {"init": duals, "text_lr": 1e-3, "contrastive": "info_nce", "label_smoothing": 0.1},
        ALM | masked | {"init": duals, "text_lr": 1e-3, "contrastive": "sigmoid"},
        ALM | masked | {"init": parts[0], "text": str(parts[1])},
    ]
    found = zip(gradients_of_all(several), in_processes(gradients_of_all, 2, several), strict=True)
    for one, two in found:
        assert one["weight"] == two["weight"] == 9
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-3)
        assert one["grads"].keys() == two["grads"].keys()
        largest = 0.0
        for name, gradient in one["grads"].items():
            np.testing.assert_allclose(gradient, two["grads"][name], rtol=1e-3, atol=1e-4)
            largest = max(largest, np.abs(gradient).max())
        assert largest > 0.1


def test_new_dual_of_two_encoders_learns_tones(parts, tmp_path):
    audio, text = parts
    options = {"epochs": 15, "lr": 5e-3, "batch_s": 6.0, "half": True}
    options |= {
        "captions": "{}",
        "caption_words": 1,
        "templates": "{}",
    }  # the text encoder is random
    config = config_of(audio, **ALM, **options, text=str(text))
    done = training(config)
    assert done["history"][-1]["dev_ua"] > 0.9
    assert not any(name.startswith("network.text_") for name in done["changed"])
    assert {"network.audio_projection.weight", "network.logit_scale"} <= done["changed"]
    network = done["task"].alm.network
    assert torch.equal(network.text_projection.weight, torch.eye(32))
    expected = AutoModel.from_pretrained(text).state_dict()
    assert all(torch.equal(v, expected[n]) for n, v in network.text_model.state_dict().items())
    done["task"].save(tmp_path / "saved", {})
    check_saved(done["task"], tmp_path / "saved", "dual", 5e-3)


def check_saved(task: Contrastive, folder, family: str, close: float):
    """The saved folder gives the task's scores."""
    spec = parse_spec(str(folder), "alm")
    assert spec.family == family
    model = load(spec)
    clips = [torch.from_numpy(t).float() / 32768 for t in tones(4)]
    rows = np.arange(4)
    task.module.eval()
    with torch.inference_mode():
        expected = task.outputs(Batch(clips, rows, rows, np.zeros(4, np.float32)))
    tiled = [c.repeat(-(-model.window // len(c)))[: model.window // len(c) * len(c)] for c in clips]
    got = model.embed_audio(tiled)
    torch.testing.assert_close(got, expected, rtol=0, atol=close)
    assert (got @ got.T).min() < 0.999


def test_clap_learns_and_saves_as_clap(tmp_path):
    untrained_alm(tmp_path / "clap")
    config = config_of(tmp_path / "clap", **ALM, epochs=1, lr=1e-3, text_lr=1e-3, warmup=0.0)
    task = Contrastive(config, table_of([EMOTIONS[i % 3] for i in range(6)], ["train"] * 3 + ["dev"] * 3))
    samples = [np.repeat(t, 3) for t in tones(6)]  # at 48 kHz
    clips = clips_of(task.table, samples)
    before = task.module.network.text_projection.linear1.weight.clone()
    progress = loop.run(task, clips, config, CPU, lambda figures, state: None)
    assert progress.history[0]["loss"] > 0
    assert not torch.equal(before, task.module.network.text_projection.linear1.weight)
    task.save(tmp_path / "saved", {})
    check_saved(task, tmp_path / "saved", "clap", 1e-5)


@pytest.mark.parametrize(
    ("options", "learns", "stays"),
    [
        ({}, {"audio_model.encoder", "audio_projection"}, {"text_model", "text_projection"}),
        ({"text_lr": 1e-3}, {"audio_model.encoder", "text_model.encoder", "text_projection"}, set()),
        ({"freeze": "encoder"}, {"audio_projection"}, {"audio_model", "text_model"}),
    ],
)
def test_frozen_weights_are_unchanged(duals, options, learns, stays):
    done = training(config_of(duals, **ALM, epochs=1, lr=1e-2, **options))
    for part in learns:
        assert any(name.startswith(f"network.{part}") for name in done["changed"]), part
    for part in stays:
        assert not any(name.startswith(f"network.{part}") for name in done["changed"]), part


def test_only_captions_of_other_labels_are_negatives(duals):
    """Two angry clips and a sad one: the gradient on the second angry caption pulls the first clip to it."""
    config = config_of(duals, **ALM, captions="{}", caption_words=1)
    task = Contrastive(config, table_of(["angry", "angry", "sad"]))
    shares = torch.zeros(3)
    truth, known = task.module._truth(np.array([[0, 1, 2], [0, 1, 2], [0, 0, 0]]).T, shares)
    assert truth.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert known.all()
    shares = torch.tensor([0.25, 0, 0])
    truth, _ = task.module._truth(np.array([[0, 1, 2], [2, 1, 2], [0, 0, 0]]).T, shares)
    torch.testing.assert_close(truth[0], torch.tensor([0.75, 0.75, 0.25]))


def test_corpus_is_classified_among_its_own_labels(duals):
    clips = table_of(["angry", "sad", "happy", "sad"], ["train", "dev"] * 2, ["a", "a", "b", "b"])
    task = Contrastive(config_of(duals, **ALM), clips)
    bank = task.alm.embed_text(["angry", "happy", "sad"])[0].numpy()
    task.config = config_of(duals, **ALM, templates="{}")
    # both dev clips score highest for happy, then sad; corpus a has no happy
    towards = (2 * bank[1] + bank[2])[None].repeat(2, axis=0)
    order = np.argsort(-(towards[0] @ bank.T))
    assert order.tolist()[:2] == [1, 2]
    assert task.metrics(towards, np.array([1, 3]))["dev_ua"] == pytest.approx(0.5)


def test_masks_cover_only_frames_of_the_clip(duals):
    config = config_of(duals, **ALM, time_masks=3, frequency_masks=2)
    task = Contrastive(config, table())
    clips = [torch.from_numpy(t).float() / 32768 for t in tones(4, (0.5, 1.0))]
    plain = task.alm.features(clips)
    hidden = {name: value.clone() for name, value in plain.items()}
    task.module._mask(hidden, clips, np.arange(4))
    changed = (plain["input_features"] != hidden["input_features"]).any(dim=2)
    assert changed.any(dim=1).sum() >= 3
    again = {name: value.clone() for name, value in task.alm.features(clips[::-1]).items()}
    task.module._mask(again, clips[::-1], np.arange(4)[::-1])
    torch.testing.assert_close(again["input_features"].flip(0), hidden["input_features"], rtol=0, atol=1e-4)


def test_invalid_starts_give_one_line_errors(duals, parts, tmp_path):
    audio, text = parts
    specialist = shutil.copytree(duals, tmp_path / "other")
    (specialist / "config.json").write_text('{"model_type": "wavlmm"}')
    cases = [
        (config_of(audio, **ALM), "no ALM.*--text MODEL"),
        (config_of(duals, **ALM, text=str(text)), "is an ALM and has a text encoder"),
        (config_of(specialist, **ALM, text=str(text)), 'model_type .wavlmm.*did you mean "wavlm"'),
        (config_of(audio, **ALM, text=str(specialist)), "model_type .wavlmm"),
        (config_of(duals, **ALM, captions="a {gender} voice"), "clip0.wav: no caption can be filled"),
        (config_of(duals, **ALM, captions="a {mood} voice"), "no column mood"),
    ]
    for config, message in cases:
        with pytest.raises(InputError, match=message) as error:
            Contrastive.check(config, table())
        assert "\n" not in str(error.value)
    assert Contrastive.check(config_of(audio, **ALM, text=str(text)), table()) == RATE
    (text / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        Contrastive(config_of(audio, **ALM, text=str(text)), table())
    with pytest.raises(InputError, match="must be trained; set --text-lr"):
        Contrastive(config_of(duals, **ALM, from_scratch=True), table())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 2}, "--accumulate"),
        ({"lora_rank": 4}, "--lora-rank"),
        ({"templates": "angry"}, "needs exactly one"),
        ({"task": "specialist", "text": "x"}, "--text is"),
    ],
)
def test_incompatible_options(options, message):
    with pytest.raises(InputError, match=message):
        config_of("x", **(ALM | options))


def test_random_projection_is_trained_with_a_frozen_text_encoder(parts):
    audio, text = parts
    for options in ({"projection_dim": 8}, {"projection": "mlp"}):
        done = training(config_of(audio, **ALM, **options, text=str(text), epochs=1, warmup=0.0))
        assert any(name.startswith("network.text_projection.") for name in done["changed"])
        assert not any(name.startswith("network.text_model.") for name in done["changed"])


def test_resumed_training_equals_an_uninterrupted_one(duals):
    config = config_of(duals, **ALM, epochs=3, lr=1e-3, text_lr=1e-4, contrastive="sigmoid", ema=0.9)
    states = []

    def run(start=None):
        torch.set_num_threads(1)
        task = Contrastive(config, table())
        report = lambda figures, state: states.append(copy.deepcopy(state()))  # noqa: E731
        history = loop.run(task, clips_of(table(), tones(N)), config, CPU, report, start).history
        return history, {name: t.clone() for name, t in task.module.state_dict().items()}

    history, weights = run()
    assert len(states) == 3
    again, same = run(states[0])
    assert [h["loss"] for h in again] == pytest.approx([h["loss"] for h in history], abs=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(same[name], weight, rtol=0, atol=1e-4)
    assert not torch.equal(weights["bias"], torch.tensor(-10.0))


def test_seed_determines_random_weights(parts):
    audio, text = parts
    models = [
        Contrastive(config_of(audio, **ALM, text=str(text), seed=seed), table()).module for seed in (1, 1, 2)
    ]
    first, same, other = (m.network.audio_projection.weight for m in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_float16_encoders_are_trained_in_float32(parts):
    for folder in parts:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))
    audio, text = parts
    network = Contrastive(config_of(audio, **ALM, text=str(text)), table()).module.network
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
