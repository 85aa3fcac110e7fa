"""Vox-Profile's two emotion models compared with their reference code, on clips of speech.

golden/voxprofile_*.npz: tiantiaf0627/vox-profile-release at 7ba0e00 (WavLMWrapper, WhisperWrapper) with
transformers 4.46.3, loralib 0.1.2, speechbrain 1.0.3, torch 2.14.1 on a CPU. The models that its
constructors fetch were replaced by random ones of reduced size (see `shapes`), with hidden_dim=32; then
load_state_dict(seeded_state(shapes, 0) times FACTORS, strict=True), save_pretrained (`config`), eval().
alone: `real_clips` one by one, at most 15 s; synthetic: `synthetic_clips` likewise; windows: the two
windows of 15 s of the longest; together: those of 3, 1 and 0.3 s in one batch, with their lengths. wavlm
has the settings of the published checkpoint, wavlm_lora adapters of rank 4 and a sum without the
convolutions' output, whisper adapters of rank 4.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.goldens import (
    assert_rows_depend_on_their_clips_alone,
    golden,
    golden_weights,
    write_checkpoint,
)
from tests.models.speech_clips import real_clips, synthetic_clips
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.encoding import classify_clips
from zsfuse_ray.models.families.voxprofile import LABELS, VoxProfile

FACTORS = {"weights": 20, "emotion_layer.2.weight": 10}
WINDOW = 15 * 16000
CLOSE = {"rtol": 0, "atol": 1e-4}
SAME = {"rtol": 0, "atol": 1e-5}
CLIPS = [speechlike(seconds, 16000, seed) for seed, seconds in enumerate((1.9, 0.3, 1.0, 0.02))]
KINDS = ("wavlm", "wavlm_lora", "whisper")
GOLDEN = {kind: golden(f"voxprofile_{kind}") for kind in KINDS}


def written(folder, kind):
    return write_checkpoint(folder, str(GOLDEN[kind]["config"]), str(GOLDEN[kind]["shapes"]), FACTORS)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind, tmp_path_factory):
    return VoxProfile(str(written(tmp_path_factory.mktemp(kind), kind)))


@pytest.mark.parametrize("clips", ["alone", "synthetic"])
def test_logits_equal_the_reference(model, kind, clips, request):
    given = synthetic_clips() if clips == "synthetic" else real_clips(request.getfixturevalue("shared"))
    got, _ = classify_clips(model, list(given.values()), long="crop", batch_s=15)
    expected = torch.from_numpy(GOLDEN[kind][clips])
    torch.testing.assert_close(got, expected, **CLOSE)
    assert torch.pdist(expected).min() > 0.05  # all clips differ


def test_long_clip_is_encoded_completely_unlike_the_reference(model, kind, shared):
    got = classify_clips(model, [real_clips(shared)[30]], batch_s=15)[0][0]
    torch.testing.assert_close(got, torch.from_numpy(GOLDEN[kind]["windows"]).mean(dim=0), **CLOSE)
    assert (got - torch.from_numpy(GOLDEN[kind]["alone"])[-1]).abs().max() > 0.1


def test_logits_do_not_depend_on_the_batch_unlike_the_reference(model, kind, shared):
    clips = [real_clips(shared)[seconds] for seconds in (3, 1, 0.3)]
    alone = torch.from_numpy(GOLDEN[kind]["alone"])[[2, 1, 0]]
    torch.testing.assert_close(model.classify(clips)[0], alone, **CLOSE)
    differences = (torch.from_numpy(GOLDEN[kind]["together"]) - alone).abs().amax(dim=1)
    if kind == "whisper":  # every clip is padded to 15 s
        assert differences.max() < 1e-5
    else:
        assert differences[0] < 1e-5  # the longest has no padding
        assert differences[1:].min() > 0.1


def test_last_layer_of_the_vector_gives_the_logits(model, kind):
    logits, vectors = model.classify(CLIPS)
    assert vectors.shape == (len(CLIPS), 32)
    weights = golden_weights(str(GOLDEN[kind]["shapes"]), FACTORS)
    by_hand = vectors @ weights["emotion_layer.2.weight"].T + weights["emotion_layer.2.bias"]
    torch.testing.assert_close(by_hand, logits, **SAME)
    assert vectors.std(dim=0).max() > 1e-2


def test_rows_do_not_depend_on_the_batch(model):
    assert_rows_depend_on_their_clips_alone(model, CLIPS, bfloat16=0.5)  # of logits up to 4


@pytest.mark.parametrize("samples", [1, 399, 400, WINDOW])
def test_every_length_is_accepted(model, samples):
    logits = model.classify([speechlike(15, 16000)[:samples]])[0]
    assert logits.shape == (1, 9)
    assert logits.isfinite().all()


def test_silence_gives_finite_logits(model):
    assert model.classify([torch.zeros(16000)])[0].isfinite().all()


def test_attributes(model):
    assert (model.kind, model.fill, model.sample_rate, model.window) == ("specialist", "none", 16000, WINDOW)
    assert (model.labels, model.vector_dim, model.same_length) == (LABELS, 32, False)
    assert model.licence == "RAIL, no commercial use"


@pytest.mark.parametrize("kind_of", ["wavlm_lora", "whisper"])
def test_adapters_are_merged(tmp_path, kind_of):
    folder = written(tmp_path, kind_of)
    adapted = VoxProfile(str(folder)).classify(CLIPS[:1])[0]
    weights = load_file(folder / "model.safetensors")
    for name in list(weights):
        if name.endswith("lora_B"):
            weights[name].zero_()
    save_file(weights, folder / "model.safetensors")
    assert (VoxProfile(str(folder)).classify(CLIPS[:1])[0] - adapted).abs().max() > 1e-3


def test_whisper_positions_have_either_name(tmp_path):
    folder = written(tmp_path, "whisper")
    expected = VoxProfile(str(folder)).classify(CLIPS[:1])[0]
    weights = load_file(folder / "model.safetensors")
    top, inside = weights.pop("embed_positions"), "backbone_model.encoder.embed_positions.weight"
    # saving drops one of two names of a shared tensor; Whisper-Medium has positions for 30 s
    weights[inside] = torch.cat([top, torch.ones_like(top)])
    save_file(weights, folder / "model.safetensors")
    assert torch.equal(VoxProfile(str(folder)).classify(CLIPS[:1])[0], expected)


def test_published_sizes(tmp_path):
    """WavLM-Large and Whisper-Large v3 as published, on the meta device to save memory."""
    from transformers import WavLMConfig, WavLMModel, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from zsfuse_ray.models.networks.configs import speech_config, whisper_config
    from zsfuse_ray.models.networks.sizes import Sizes

    with torch.device("meta"):
        wavlm = WavLMModel(
            WavLMConfig(
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
                feat_extract_norm="layer",
                do_stable_layer_norm=True,
                mask_time_prob=0.0,
            )
        )
        large = WhisperConfig(
            d_model=1280,
            encoder_layers=32,
            encoder_attention_heads=20,
            encoder_ffn_dim=5120,
            num_mel_bins=128,
            max_source_positions=750,
        )
        whisper = WhisperEncoder(large)
    read = speech_config(Sizes(wavlm.state_dict(), "x", "x"), WavLMConfig)
    settings = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim")
    settings += ("conv_kernel", "conv_stride", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups")
    settings += (
        "num_buckets",
        "max_bucket_distance",
        "feat_extract_norm",
        "do_stable_layer_norm",
        "conv_bias",
    )
    for setting in settings:
        ours, published = getattr(read, setting), getattr(wavlm.config, setting)
        assert np.array_equal(ours, published), setting
    read = whisper_config(Sizes(whisper.state_dict(), "x", "x"), 750)
    for setting in (
        "d_model",
        "encoder_layers",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "num_mel_bins",
    ):
        assert getattr(read, setting) == getattr(large, setting), setting


def edited(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def drop(weights, name):
    del weights[name]


@pytest.mark.parametrize(
    ("kind_of", "change", "message"),
    [
        ("wavlm", lambda w: drop(w, "weights"), "missing weights"),
        ("wavlm", lambda w: drop(w, "emotion_layer.2.weight"), "missing emotion_layer.2.weight"),
        ("wavlm", lambda w: w.update(weights=torch.ones(3)), "3 hidden states of 4 layers"),
        ("wavlm", lambda w: w.update({"emotion_layer.2.weight": torch.ones(3, 32)}), r"expected \[9, 32\]"),
        ("wavlm", lambda w: w.update(extra=torch.ones(1)), "unexpected extra"),
        ("wavlm_lora", lambda w: [drop(w, k) for k in list(w) if k.endswith("lora_B")], "adapts no weight"),
        ("whisper", lambda w: drop(w, "backbone_model.encoder.conv1.weight"), "missing .*conv1.weight"),
        ("whisper", lambda w: w.update(embed_positions=torch.ones(700, 128)), r"expected \[750, 128\]"),
    ],
)
def test_other_weights_are_errors(tmp_path, kind_of, change, message):
    with pytest.raises(InputError, match=message) as raised:
        VoxProfile(edited(written(tmp_path, kind_of), change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("pretrained", ["wavlm", "hubert", None])
def test_other_configs_are_errors(tmp_path, pretrained):
    folder = written(tmp_path, "wavlm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pretrain_model": pretrained}))
    with pytest.raises(InputError, match=f"has pretrain_model {pretrained!r}, expected wavlm_large"):
        VoxProfile(str(folder))


def test_checkpoint_of_the_other_backbone_is_an_error(tmp_path):
    folder = written(tmp_path, "wavlm")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("wavlm_large", "whisper_large"))
    with pytest.raises(
        InputError, match="not a valid Vox-Profile emotion checkpoint: missing backbone_model"
    ):
        VoxProfile(str(folder))
