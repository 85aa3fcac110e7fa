"""CLSP compared with the package zipformer and the authors' heads, on the same weights, clips and texts.

golden/clsp.npz: outputs of PyPI's zipformer 0.1.3 (torch 2.14.1, torchaudio 2.11.0, transformers 5.24.0;
TORCHDYNAMO_DISABLE=1) in CLAP of yfyeung/icefall@ba0b41c, egs/emilia/CLAP/spear_roberta/model.py: its encoder
is `encoder()` below, its encoder_embed Conv2dSubsampling(128, 32), its text encoder RobertaModel of `TEXT`,
joint_dim 32, in eval mode, with the weights of `weights()`. `shapes`: of its state_dict. Log-mel by
torchaudio, see `mel`. `synthetic`, `real` (7, 32): embeddings of synthetic_clips() and of real_clips(), one
at a time. `frames_SECONDS`: outputs of the encoder for three of synthetic_clips(). `text` (4, 32): of TEXTS,
tokenized together by byte_tokenizer() with padding and truncation.
"""

import json
import math
import random
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchaudio.compliance.kaldi import fbank

from tests.models.goldens import golden
from tests.models.seeded_weights import seeded_state
from tests.models.speech_clips import SECONDS, real_clips, synthetic_clips
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import effects
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.models.families.clsp import Clsp
from zsfuse_ray.models.networks.clsp import ClspFbank, ClspNetwork, clsp_sizes
from zsfuse_ray.models.untrained import byte_tokenizer

TEXT = {"vocab_size": 261, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG = {
    "model_type": "clsp",
    "auto_map": {"AutoModel": "modeling_clsp.CLSP", "AutoConfig": "configuration_clsp.Config"},
    "encoder_dim": "32,32,32",
    "num_heads": 2,
    "query_head_dim": 8,
    "pos_dim": 16,
    "num_encoder_layers": "1,2,1",
    "downsampling_factor": [1, 4, 1],
    "feedforward_dim": [64],
    "cnn_module_kernel": "15,7,15",
    "joint_dim": 32,
    "text_config": TEXT | {"intermediate_size": 64, "torch_dtype": "float32"},
}
TEXTS = ["A speaker in a happy tone.", "sad", "Wütend, Stufe 9", "A speaker in a sad tone. " * 40]
CLOSE = {"rtol": 0, "atol": 1e-5}
OF_PACKAGE = {"rtol": 0, "atol": 1e-4}


def encoder():
    """The package's encoder with the sizes of CONFIG."""
    modules = pytest.importorskip("zipformer.modules.zipformer", exc_type=ImportError)
    return modules.Zipformer(
        downsampling_factor=(1, 4, 1),
        num_encoder_layers=(1, 2, 1),
        encoder_dim=32,
        encoder_unmasked_dim=32,
        query_head_dim=8,
        pos_head_dim=4,
        value_head_dim=12,
        pos_dim=16,
        num_heads=2,
        feedforward_dim=64,
        cnn_module_kernel=(15, 7, 15),
    )


@cache
def weights() -> dict[str, torch.Tensor]:
    """Seeded weights. Bypasses are around 0.5, some beyond 0 and 1, so that every module counts."""
    state = seeded_state(json.loads(str(golden("clsp")["shapes"])), 0)
    return {name: 0.5 + 5 * w if name.endswith("bypass_scale") else w for name, w in state.items()}


def mel(clip: torch.Tensor) -> torch.Tensor:
    """The reference's log-mel (1, frames, 128)."""
    edges = {"low_freq": 20.0, "high_freq": -400.0, "snip_edges": False}
    return fbank(clip[None], num_mel_bins=128, dither=0.0, sample_frequency=16000.0, **edges)[None]


def write(folder: Path, state: dict[str, torch.Tensor], config: dict | None = None) -> Path:
    """Write a hub folder: weights with the prefix of the release's class, config and tokenizer."""
    folder.mkdir(exist_ok=True)
    save_file({f"model.{name}": value for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clsp"), weights())


@pytest.fixture(scope="module")
def model(folder) -> Clsp:
    return Clsp(str(folder))


def tensor(name: str) -> torch.Tensor:
    return torch.from_numpy(golden("clsp")[name])


@pytest.mark.parametrize("which", ["synthetic", "real"])
def test_audio_embeddings_equal_the_reference(model, which, request):
    clips = synthetic_clips() if which == "synthetic" else real_clips(request.getfixturevalue("shared"))
    assert tuple(clips) == SECONDS
    got = torch.cat([model.embed_audio([clip]) for clip in clips.values()])
    torch.testing.assert_close(got, tensor(which), **CLOSE)
    apart = torch.cdist(tensor(which), tensor(which)) + torch.eye(len(SECONDS))
    assert apart.min() > 0.01  # far above the tolerance


@pytest.mark.parametrize("seconds", [0.3, 1, 3])
def test_frames_equal_the_package(model, seconds):
    with torch.no_grad():
        frames = model.network.frames(model.features([synthetic_clips()[seconds]])["mel"])
    torch.testing.assert_close(frames[0], tensor(f"frames_{seconds}"), **OF_PACKAGE)
    assert frames.std() > 0.5


@pytest.mark.parametrize("seconds", [0.3, 12])
def test_frames_equal_the_installed_package(model, seconds):
    theirs = encoder()
    subsampling = pytest.importorskip("zipformer.modules.subsampling").Conv2dSubsampling(128, 32)
    for module, prefix in ((theirs, "encoder."), (subsampling, "encoder_embed.")):
        own = {n.removeprefix(prefix): w for n, w in weights().items() if n.startswith(prefix)}
        module.eval().load_state_dict(own)
    features = mel(synthetic_clips()[seconds])
    with torch.no_grad():
        x, length = subsampling(features, torch.tensor([features.shape[1]]))
        expected, _ = theirs(x.transpose(0, 1), length, torch.zeros(x.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(model.network.frames(features)[0], expected[:, 0], **OF_PACKAGE)


def test_text_embeddings_equal_the_reference_and_truncation_is_reported(model):
    got, truncated = model.embed_text(TEXTS)
    torch.testing.assert_close(got, tensor("text"), **CLOSE)
    assert truncated == [False, False, False, True]
    assert model.max_tokens == 512
    assert (torch.cdist(got, got) + torch.eye(len(TEXTS))).min() > 0.01


@pytest.mark.parametrize("samples", [1360, 4801, 15999, 16000, 16079, 16080])
def test_log_mel_equals_torchaudio(samples):
    clip = speechlike(samples / 16000 + 0.01, 16000)[:samples]
    torch.testing.assert_close(ClspFbank()([clip]), mel(clip), rtol=0, atol=2e-4)


def test_log_mel_of_silence_has_torchaudios_floor():
    assert ClspFbank()([torch.zeros(16000)]).unique().tolist() == [pytest.approx(-15.9424, abs=1e-4)]


def test_batch_of_equal_lengths_equals_single_clips(model):
    clip = synthetic_clips()[3]
    clips = [clip, clip.flip(0), 0.1 * clip]
    together = model.embed_audio(clips)
    alone = torch.cat([model.embed_audio([one]) for one in clips])
    torch.testing.assert_close(together, alone, **CLOSE)
    assert torch.equal(model.embed_audio(clips), together)


def test_different_lengths_never_share_a_batch_since_padding_changes_the_result(model):
    clips = [synthetic_clips()[seconds] for seconds in (1, 3)]
    assert model.same_length
    with pytest.raises(ValueError, match="same length"):
        model.embed_audio(clips)
    alone = torch.cat([model.embed_audio([clip]) for clip in clips])
    embeddings, inputs = embed_clips(model, clips, [1], batch_s=100)
    assert inputs == 2
    torch.testing.assert_close(embeddings[:, 0], alone, **CLOSE)
    padded = model.embed_audio([torch.cat([clips[0], torch.zeros(8000)])])
    assert (padded - alone[:1]).abs().max() > 1e-3


def test_the_global_random_state_is_neither_read_nor_changed(model):
    clip = synthetic_clips()[1]
    random.seed(1)
    states = random.getstate(), torch.get_rng_state()
    first = model.embed_audio([clip])
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    torch.manual_seed(7)
    random.seed(7)
    assert torch.equal(model.embed_audio([clip]), first)


def test_every_repeat_is_encoded(model):
    clip = synthetic_clips()[1]
    assert effects([len(clip)], (1, 3), None, "none")[3] == {"same": 0, "fewer": 0, "cropped": 0, "more": 1}
    embeddings, inputs = embed_clips(model, [clip], (1, 3), batch_s=20)
    assert inputs == 2
    torch.testing.assert_close(embeddings[:, 1], model.embed_audio([clip.repeat(3)]), **CLOSE)
    assert (embeddings[:, 1] - embeddings[:, 0]).abs().max() > 1e-3


def test_clips_too_short_for_the_reference_are_zero_padded(model):
    clips = [speechlike(0.05, 16000), speechlike(0.02, 16000)]
    padded = [torch.cat([clip, torch.zeros(1360 - len(clip))]) for clip in clips]
    expected = torch.cat([model.embed_audio([clip]) for clip in padded])
    assert expected.isfinite().all()
    torch.testing.assert_close(model.embed_audio(clips), expected, **CLOSE)


def test_bfloat16_is_close(model, folder):
    half = Clsp(str(folder), dtype=torch.bfloat16)
    for clip in (synthetic_clips()[1], synthetic_clips()[7]):
        assert (half.embed_audio([clip]) * model.embed_audio([clip])).sum() > 0.999
    assert (half.embed_text(TEXTS)[0] * model.embed_text(TEXTS)[0]).sum(dim=1).min() > 0.999


def test_the_release_has_724_million_parameters():
    with torch.device("meta"):
        network = ClspNetwork(clsp_sizes({}, "yfyeung/CLSP"))
    assert sum(weight.numel() for weight in network.parameters()) == 724_244_405
    names = network.state_dict().keys()
    assert {
        "encoder_embed.conv.7.weight",
        "encoder.encoders.0.layers.0.bypass_scale",
        "encoder.encoders.3.encoder.layers.3.self_attn_weights.linear_pos.weight",
        "encoder.encoders.5.out_combiner.bypass_scale",
        "encoder.downsample_output.bias",
        "audio_transform.sequential.3.bias",
        "text_encoder.pooler.dense.weight",
        "logit_scale",
    } <= names


def test_attributes(model, folder):
    again = load(parse_spec(f"clsp:{folder}", "alm"))
    assert type(load(parse_spec(str(folder), "alm"))) is type(again) is Clsp  # by its model_type
    assert (model.kind, model.labels, model.window, model.fill) == ("alm", None, None, "none")
    assert (model.sample_rate, model.dim, model.licence) == (16000, 32, "Apache-2.0")
    assert len(model.revision) == 12
    assert model.scale == pytest.approx(math.exp(weights()["logit_scale"].item()))


def test_untrained_model_labels(tmp_path):
    model = load(parse_spec("clsp:untrained", "alm"))
    assert (model.licence, model.scale) == ("apache-2.0", pytest.approx(1 / 0.07))
    texts, _ = model.embed_text(["happy", "sad"])
    assert torch.dist(*texts) > 0.05
    assert model.embed_audio([synthetic_clips()[1]]).shape == (1, 32)


def _without(part):
    return lambda state: {name: value for name, value in state.items() if part not in name}


def _with(name, *shape):
    return lambda state: {**state, name: torch.ones(shape)}


def _renamed(before, after):
    return lambda state: {name.replace(before, after): value for name, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("layers.1.norm.bias"),
            r"missing encoder.encoders.1.encoder.layers.1.norm.bias \(1 missing",
        ),
        (_with("decoder.weight", 2), r"checkpoint: unexpected decoder.weight \(1 unexpected"),
        (
            _renamed("audio_projection.", "audio_proj."),
            r"missing audio_projection.0.bias \(4 missing .*unexpected audio_proj.0.bias \(4 unexpected",
        ),
        (_with("encoder.downsample_output.bias", 3), r"has shape \[3\], expected \[2\]"),
    ],
)
def test_weights_of_other_names_are_one_line_errors_that_say_names_were_predicted(change, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        Clsp(str(write(tmp_path, change(weights()))))
    assert "were predicted from its training code" in str(error.value)
    assert "\n" not in str(error.value)


def test_constants_stored_by_older_versions_are_ignored(model, tmp_path):
    old = weights() | {"text_encoder.embeddings.position_ids": torch.arange(514)[None]}
    again = Clsp(str(write(tmp_path, old)))
    assert torch.equal(again.embed_text(TEXTS)[0], model.embed_text(TEXTS)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_encoder_layers": "1,x"},
            "num_encoder_layers in config.json is '1,x', expected positive whole",
        ),
        ({"encoder_dim": 0}, "encoder_dim in config.json is 0, expected positive"),
        ({"encoder_dim": 10**12}, "encoder_dim in config.json is 1000000000000, expected positive"),
        ({"feedforward_dim": [64, 64]}, "feedforward_dim in config.json has 2 numbers, expected 1 or 3"),
        ({"encoder_dim": [32, 32, 64]}, "encoder_dim in config.json differs between stacks"),
        ({"cnn_module_kernel": 8}, "cnn_module_kernel 8 in config.json must be odd"),
        ({"pos_dim": 15}, "pos_dim 15 in config.json must be even"),
        ({"text_config": {"hidden_size": None}}, "text_config.hidden_size in config.json is None"),
        ({"text_config": TEXT | {"num_attention_heads": 5}}, "config.json has inconsistent sizes: "),
    ],
)
def test_invalid_sizes_are_one_line_errors(change, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        Clsp(str(write(tmp_path, weights(), CONFIG | change)))
    assert "\n" not in str(error.value)


def test_wrong_tokenizer_and_single_file_are_one_line_errors(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(copy)
    with pytest.raises(InputError, match=r"needs the tokenizer of roberta-base .261 tokens, padding id 1"):
        Clsp(str(copy))
    with pytest.raises(InputError, match=r"is a file of weights; expected a folder"):
        Clsp(str(folder / "model.safetensors"))
