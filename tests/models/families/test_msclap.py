"""Microsoft CLAP compared with its own package, run on the same weights, clips and texts.

golden/msclap_YEAR.npz: outputs of msclap 1.3.4 from PyPI (torch 2.14.1, transformers 4.57.1, torchlibrosa
0.1.0, librosa 0.11.0, numpy 1.26.4): CLAPWrapper(model_fp=the file of `write_checkpoint`, version=YEAR) with
smaller towers (HTSAT_Swin_Transformer(embed_dim=32, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4]) and
GPT2Config of 128 wide, 2 layers; Cnn14's blocks 8, 16, 16, 32, 32, 64 wide, fc1 48, and BertConfig of 128
wide, 2 layers; d_proj 64), the tokenizers of `msclap_checkpoints`, and audio files of 44.1 kHz in float32.
made_up, real: get_audio_embeddings of each clip, with random.randrange returning 0. crop_at_54321: of the
fifth clip, returning 54321. stereo: of a file with two channels. texts, long_text, ids: get_text_embeddings
of TEXTS together and of LONG_TEXT alone, and preprocess_text's input_ids. shapes, relative_position_index: of
its state_dict. melW: its mel filters, the k-th times 1 + sin(k) / 2, to detect recomputed filters.
"""

import json
import math
import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, pad

from tests.models.msclap_checkpoints import (
    LONG_TEXT,
    SECONDS,
    TEXTS,
    checkpoint,
    made_up_clips,
    real_clips,
    write_bert_tokenizer,
    write_gpt2_tokenizer,
)
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import effect, filled
from zsfuse_ray.models.encoding import embed_clips, periodic
from zsfuse_ray.models.families.msclap import MsClap

YEARS = ("2022", "2023")
CLOSE = {"rtol": 0, "atol": 1e-5}


def golden(year: str) -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parents[1] / "golden" / f"msclap_{year}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file if name != "shapes"}


@cache
def weights(year: str) -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parents[1] / "golden" / f"msclap_{year}.npz") as file:
        shapes = json.loads(str(file["shapes"]))
    fixed = {k: v for k, v in golden(year).items() if k in ("melW", "relative_position_index")}
    return checkpoint(shapes, fixed, seed=0)


def write_checkpoint(folder: Path, year: str, content: object) -> Path:
    (write_gpt2_tokenizer if year == "2023" else write_bert_tokenizer)(folder)
    file = folder / f"CLAP_weights_{year}.pth"
    torch.save(content, file)
    return file


@pytest.fixture(scope="module", params=YEARS)
def year(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def file(year, tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(year), year, {"model": weights(year), "epoch": 3})


@pytest.fixture(scope="module")
def model(file) -> MsClap:
    return MsClap(str(file))


def encoded(model: MsClap, clip: torch.Tensor, start: int = 0) -> torch.Tensor:
    """Return the normalised embedding of a clip from `start`, filled or cut as by the reference."""
    stretch = clip[start : start + model.window]
    return model.embed_audio([periodic(stretch, 0, model.window)])[0]


@pytest.mark.parametrize("which", ["made_up", "real"])
def test_audio_embeddings_equal_the_package(model, year, which, request):
    clips = made_up_clips() if which == "made_up" else real_clips(request.getfixturevalue("shared"))
    assert [round(len(clip) / model.sample_rate, 3) for clip in clips] == list(SECONDS)
    got, _ = embed_clips(model, clips, [1], long="crop", batch_s=30)
    expected = normalize(golden(year)[which], dim=-1)
    torch.testing.assert_close(got[:, 0], expected, **CLOSE)
    apart = torch.cdist(expected, expected) + torch.eye(len(clips))
    assert apart.min() > 0.05  # clips do differ


def test_random_crop_of_the_package_equals_that_part(model, year):
    clip, expected = made_up_clips()[4], normalize(golden(year)["crop_at_54321"], dim=-1)
    torch.testing.assert_close(encoded(model, clip, 54321), expected, **CLOSE)
    assert (encoded(model, clip) - expected).abs().max() > 1e-3  # our crop is the head


def test_package_concatenates_channels(model, year):
    left, right = made_up_clips()[2][:88200], made_up_clips()[3][:88200]
    expected = normalize(golden(year)["stereo"], dim=-1)
    torch.testing.assert_close(encoded(model, torch.cat([left, right])), expected, **CLOSE)
    assert (encoded(model, (left + right) / 2) - expected).abs().max() > 1e-3  # ours are mixed


def test_text_embeddings_and_tokens_equal_the_package(model, year):
    got, truncated = model.embed_text(list(TEXTS))
    torch.testing.assert_close(got, normalize(golden(year)["texts"], dim=-1), **CLOSE)
    assert truncated == [False] * len(TEXTS)
    assert (torch.cdist(got, got) + torch.eye(len(TEXTS))).min() > 0.05
    for row, expected in zip(model.tokens(list(TEXTS))[0], golden(year)["ids"], strict=True):
        assert torch.equal(pad(row, (0, len(expected) - len(row))), expected.long())


def test_longer_text_is_truncated_before_its_ending_and_reported(model, year):
    got, truncated = model.embed_text([TEXTS[0], LONG_TEXT[year]])
    assert truncated == [False, True]
    (short, row), _ = model.tokens([TEXTS[0], LONG_TEXT[year]])
    assert len(row) == model.max_tokens == {"2022": 100, "2023": 77}[year]
    assert torch.equal(row[-1:], short[-1:])
    alone = normalize(golden(year)["long_text"], dim=-1)  # alone, the package encodes all of a long text
    assert (got[1] - alone).abs().max() > 1e-3
    model.max_tokens = 128
    try:
        torch.testing.assert_close(model.embed_text([LONG_TEXT[year]])[0][0], alone, **CLOSE)
    finally:
        model.max_tokens = len(row)


@pytest.mark.parametrize("year", ["2023"], indirect=True)
def test_exclamation_mark_moves_the_pooling_position(model):
    text = "so happy!!"
    (row,), _ = model.tokens([text])
    assert (row == 0).sum() == 2
    got = model.embed_text([text])[0][0]
    with torch.no_grad():
        hidden = model.network.caption_encoder["base"](row[None]).last_hidden_state[0]
        places = normalize(model.network.caption_encoder["projection"](hidden), dim=-1)
    torch.testing.assert_close(got, places[-3], **CLOSE)
    assert (got - places[-1]).abs().max() > 1e-3


def test_embeddings_do_not_depend_on_batch_or_random_state(model):
    clips = [periodic(clip, 0, min(model.window, 2 * len(clip))) for clip in made_up_clips()[:4]]
    together = model.embed_audio(clips)
    random.seed(7)
    torch.manual_seed(7)
    torch.testing.assert_close(torch.cat([model.embed_audio([clip]) for clip in clips]), together, **CLOSE)
    zeros = [pad(clip, (0, model.window - len(clip))) for clip in clips]
    torch.testing.assert_close(model.embed_audio(zeros), together, **CLOSE)
    texts = model.embed_text(list(TEXTS))[0]
    one_by_one = torch.cat([model.embed_text([text])[0] for text in TEXTS])
    torch.testing.assert_close(texts, one_by_one, **CLOSE)


def test_bfloat16_is_close_and_does_not_depend_on_the_batch(file, model):
    half = MsClap(str(file), dtype=torch.bfloat16)
    clips = [periodic(clip, 0, model.window) for clip in made_up_clips()[:3]]
    together = half.embed_audio(clips)
    assert together.dtype == torch.float32
    assert (together * model.embed_audio(clips)).sum(dim=1).min() > 0.995
    alone = torch.cat([half.embed_audio([clip]) for clip in clips])
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-2)
    assert (half.embed_text(list(TEXTS))[0] * model.embed_text(list(TEXTS))[0]).sum(dim=1).min() > 0.99


def test_attributes(model, year):
    assert (model.kind, model.labels, model.same_length, model.fill) == ("alm", None, False, "circular")
    seconds, scale = {"2022": 5, "2023": 7}[year], weights(year)["logit_scale"]
    assert (model.sample_rate, model.window, model.dim) == (44100, seconds * 44100, 64)
    assert model.scale == pytest.approx(math.exp(scale))
    assert model.licence == "MIT"
    assert len(model.revision) == 12


def reference_fill(clip: torch.Tensor, window: int, start: int) -> torch.Tensor:
    """The package's fill: copies up to the window, else a crop (from a random start)."""
    if len(clip) <= window:
        return clip.repeat(math.ceil(window / len(clip)))[:window]
    return clip[start : start + window]


def test_effective_repetition_matches_the_package():
    window = 40
    for length in range(1, window + 1):
        clip = torch.arange(length)
        for a in range(1, 6):
            once, many = (reference_fill(clip.repeat(n), window, 0) for n in (1, a))
            assert torch.equal(many, periodic(clip, 0, filled(length, a, window, "circular")))
            assert torch.equal(once, many)
            assert effect(length, a, window, "circular") == "same"
            for start in range(max(0, a * length - window)):
                crop = reference_fill(clip.repeat(a), window, start)
                assert torch.equal(crop, periodic(clip, start % length, window))


def test_repetition_needs_no_extra_inputs(model):
    embeddings, inputs = embed_clips(model, made_up_clips()[:3], [1, 2, 3], batch_s=30)
    assert inputs == 3
    assert torch.equal(embeddings[:, 0], embeddings[:, 2])


def test_extra_weights_of_other_versions_are_ignored(model, year, tmp_path):
    extra = dict(weights(year))
    if year == "2023":
        extra["caption_encoder.base.h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
        extra["caption_encoder.base.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    else:
        extra["caption_encoder.base.embeddings.position_ids"] = torch.arange(128)[None]
    content = {"model": {f"module.{name}": value for name, value in extra.items()}}
    other = MsClap(str(write_checkpoint(tmp_path, year, content).parent))
    clip = made_up_clips()[1]
    assert torch.equal(encoded(other, clip), encoded(model, clip))


def test_filters_are_read_from_the_file(model, year, tmp_path):
    changed = dict(weights(year))
    (name,) = [name for name in changed if name.endswith("melW")]
    changed[name] = changed[name].flip(1)
    other = MsClap(str(write_checkpoint(tmp_path, year, {"model": changed})))
    clip = made_up_clips()[1]
    assert (encoded(other, clip) - encoded(model, clip)).abs().max() > 1e-3


def without(name):
    return lambda state: {key: value for key, value in state.items() if not key.endswith(name)}


def cut(name, rows):
    return lambda state: {k: v[:rows] if k.endswith(name) else v for k, v in state.items()}


def noisy(name):
    return lambda state: {k: v + 0.01 if k.endswith(name) else v for k, v in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"weight": torch.ones(2)}, "expected the weights of CLAP_weights_2023"),
        (without("base.wte.weight"), "expected the weights of CLAP_weights_2023"),
        (without("embeddings.word_embeddings.weight"), "expected the weights of CLAP_weights_2023"),
        (without("conv_real.weight"), "missing: .*conv_real.weight"),
        (without("melW"), "missing: .*melW"),
        (without("wpe.weight"), "missing: .*wpe.weight"),
        (without("fc1.weight"), "missing:? .*fc1.weight"),
        (without("logit_scale"), "missing logit_scale"),
        (without("caption_encoder.projection.layer_norm.bias"), "missing caption_encoder.projection"),
        (without("layers.1.blocks.1.norm1.weight"), r"missing .*1.blocks.1.layernorm_before.weight"),
        (cut("melW", 400), r"mel filters have shape \[400, 64\], expected \[513, 64\]"),
        (cut("conv_real.weight", 400), "not a windowed Fourier transform"),
        (noisy("conv_real.weight"), "not a windowed Fourier transform"),
        (cut("audio_encoder.projection.linear1.weight", 32), r"has shape .*expected \[32"),
        (cut("qkv.weight", 32), "has shape .*expected"),
        (cut("qkv.bias", 2), r"missing .*attention.self.value.bias"),
        (cut("wte.weight", 100), "needs the tokenizer of openai-community/gpt2 "),
        (cut("conv_block3.conv1.weight", 2), r"conv_block3.bn1.weight has shape \[16\], expected \[2\]"),
        (
            lambda state: {**state, "audio_encoder.base.more": torch.ones(1)},
            "unexpected audio_encoder.base.more",
        ),
    ],
)
def test_other_weights_are_one_line_errors(change, message, tmp_path):
    refusals = []
    for year in YEARS:  # some changes have no effect on one of them
        state = weights(year)
        changed = change(state)
        if len(changed) != len(state) or any(changed[k] is not v for k, v in state.items()):
            (folder := tmp_path / year).mkdir()
            with pytest.raises(InputError, match=message) as error:
                MsClap(str(write_checkpoint(folder, year, {"model": changed})))
            refusals.append(str(error.value))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_truncated_file_and_wrong_tokenizer_are_one_line_errors(file, year, tmp_path):
    copy = shutil.copytree(file.parent, tmp_path / "copy") / file.name
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as weights"):
        MsClap(str(copy))
    copy.write_bytes(content)
    (write_bert_tokenizer if year == "2023" else write_gpt2_tokenizer)(copy.parent)
    with pytest.raises(InputError, match=f"{copy} needs the tokenizer of") as error:
        MsClap(str(copy))
    assert "\n" not in str(error.value)
