"""ReCLAP compared with the authors' module, run on the same weights, clips and token ids.

golden/reclap.npz, reclap_fused.npz: outputs of train/src/laion_clap of github.com/Sreyan88/ReCLAP at 38b94f0
(torch 2.14.1, transformers 5.24.0, torchlibrosa 0.1.0, librosa 0.11.0): create_model("HTSAT-base", "t5",
enable_fusion=…, fusion_type="aff_2d") with smaller towers, HTSAT_Swin_Transformer(embed_dim=16, depths=[1, 1,
2, 1], num_heads=[1, 2, 2, 4]) and, for flan-t5-large, T5EncoderModel of T5Config(vocab_size=300, d_model=64,
d_kv=8, d_ff=96, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"), and the weights of `weights`,
whose names are all in the authors' keys.txt. made_up, real: get_audio_embedding of get_audio_features
(repeatpad) of the first 10 s of the clips of `made_up_clips` (taken as 48 kHz) and `podcast_clips`. texts:
get_text_embedding of TEXTS, tokenised as by the authors' hook (padding="max_length", truncation=True,
max_length=77) with the tokenizer of `t5_pieces`. shapes, relative_position_index: of the state_dict.
"""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models.goldens import golden
from tests.models.msclap_checkpoints import made_up_clips
from tests.models.seeded_weights import seeded_state
from tests.models.speech_clips import podcast_clips
from tests.models.tiny_tokenizers import t5_pieces, word_pieces
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.encoding import embed_clips, periodic
from zsfuse_ray.models.families.reclap import Reclap

TEXTS = (
    "this person is feeling happy.",
    "",
    "wütend",
    "a calm voice",
    "this person is feeling sad. this person is feeling sad.",
    "this person is feeling sad. " * 15,
)
CLOSE = {"rtol": 0, "atol": 1e-5}
SHARED = "text_branch.shared.weight"
COPY = "text_branch.encoder.embed_tokens.weight"
# Not random: the spectrogram, which is not read, masks, and counters.
_FIXED = re.compile(r".*(spectrogram_extractor|logmel_extractor|attn_mask|num_batches).*")


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    """The weights that the reference was run with; statistics of speech in decibels, as after training."""
    arrays = golden(name)
    shapes = json.loads(str(arrays["shapes"]))
    index = torch.from_numpy(arrays["relative_position_index"]).long()
    random = {k: s for k, s in shapes.items() if not (_FIXED.fullmatch(k) or k.endswith("_index"))}
    state = seeded_state(random, 0)
    state[COPY] = state[SHARED]
    state["audio_branch.bn0.running_mean"] -= 40
    state["audio_branch.bn0.running_var"] *= 300
    state |= {k: index for k in shapes if k.endswith("_index")}
    state |= {k: torch.tensor(0) for k in shapes if k.endswith("num_batches_tracked")}
    return state | {k: torch.zeros(1) for k in shapes if k not in state}


def write(folder: Path, content: Any, name: str = "base_rewritten.pt") -> str:
    folder.mkdir(exist_ok=True)
    t5_pieces().save_pretrained(folder)
    if name.endswith(".safetensors"):
        save_file(content, folder / name)
    else:
        torch.save(content, folder / name)
    return str(folder / name)


@pytest.fixture(scope="module", params=["reclap", "reclap_fused"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name, tmp_path_factory) -> Reclap:
    state = {f"module.{key}": value for key, value in weights(name).items()}
    content = {"epoch": 9, "name": "base", "state_dict": state, "optimizer": {"state": {}}}
    return Reclap(write(tmp_path_factory.mktemp(name), content))


@pytest.mark.parametrize("which", ["made_up", "real"])
def test_audio_embeddings_equal_the_reference(model, name, which, request):
    real = which == "real" and podcast_clips(request.getfixturevalue("shared"))
    clips = list(real.values()) if real else made_up_clips()
    got, _ = embed_clips(model, clips, [1], long="crop", batch_s=30)
    expected = torch.from_numpy(golden(name)[which])
    torch.testing.assert_close(got[:, 0], expected, **CLOSE)
    assert (torch.cdist(expected, expected) + torch.eye(len(clips))).min() > 0.01  # clips do differ


def test_text_embeddings_equal_the_reference(model, name):
    got, truncated = model.embed_text(list(TEXTS))
    expected = torch.from_numpy(golden(name)["texts"])
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (torch.cdist(expected, expected) + torch.eye(len(TEXTS))).min() > 0.1
    assert truncated == [False] * 5 + [True]
    for text, row in zip(TEXTS, expected, strict=True):  # padded to 77 whatever the batch
        torch.testing.assert_close(model.embed_text([text])[0][0], row, **CLOSE)


def test_padding_is_part_of_the_mean(model):
    (ids,), _ = model.tokens([TEXTS[0]])
    with torch.no_grad():
        hidden = model.network.text_branch(ids[None]).last_hidden_state.mean(dim=1)
        without = torch.nn.functional.normalize(model.network.text_projection(hidden), dim=-1)
    assert (model.embed_text([TEXTS[0]])[0] - without).abs().max() > 1e-2


def test_embeddings_do_not_depend_on_batch_or_random_state(model):
    clips = [periodic(clip, 0, len(clip)) for clip in made_up_clips()[:4]]
    together = model.embed_audio(clips)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.testing.assert_close(torch.cat([model.embed_audio([c]) for c in clips]), together, **CLOSE)
    long = [made_up_clips()[6]]
    first, second = (embed_clips(model, long, [1, 2], batch_s=30)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_attributes(model, name, tmp_path):
    assert (model.sample_rate, model.window, model.dim, model.fill) == (48000, 480000, 512, "repeat_pad")
    assert model.scale == pytest.approx(math.exp(weights(name)["logit_scale_a"]))
    assert model.scale != pytest.approx(math.exp(weights(name)["logit_scale_t"]))
    assert (model.max_tokens, model.same_length, model.licence) == (77, False, "none stated")
    assert model.network.audio_branch.config.enable_fusion == (name == "reclap_fused")
    assert isinstance(load(parse_spec(f"reclap:{write(tmp_path, weights(name))}", "alm")), Reclap)


def test_storage_variants_give_the_same_embeddings(model, name, tmp_path):
    plain = {k: v.clone() for k, v in weights(name).items() if k != COPY and not _FIXED.fullmatch(k)}
    batches = {k: v for k, v in weights(name).items() if k.endswith("num_batches_tracked")}
    again = Reclap(write(tmp_path, plain | batches, "bare.safetensors"))
    clip = made_up_clips()[1:2]
    assert torch.equal(again.embed_audio(clip), model.embed_audio(clip))
    assert torch.equal(again.embed_text(list(TEXTS))[0], model.embed_text(list(TEXTS))[0])


def without(pattern: str):
    return lambda state: {key: value for key, value in state.items() if not re.search(pattern, key)}


CLIP = {"token_embedding.weight": torch.ones(49408, 8), "text_branch.resblocks.0.ln_1.weight": torch.ones(8)}
ROBERTA = {"text_branch.embeddings.word_embeddings.weight": torch.ones(9, 8)}
WI = "text_branch.encoder.block.1.layer.1.DenseReluDense.wi_0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without("text_branch")(s) | CLIP, r"text encoder is CLIP's .*49408 × 8\), not T5"),
        (lambda s: without("text_branch")(s) | ROBERTA, "RoBERTa, as in LAION's files, not T5; use laion:"),
        (without("text_branch"), "missing text_branch.shared.weight"),
        (without("audio_branch"), "missing audio_branch.patch_embed.proj.weight"),
        (without("relative_attention_bias"), "missing text_branch.*relative_attention_bias.weight"),
        (without(WI), f"missing {WI}"),
        (without("logit_scale_a"), "missing logit_scale_a"),
        (lambda s: s | {WI: torch.ones(7, 64)}, r"wi_0.weight has shape \[7, 64\], expected \[96, 64\]"),
        (lambda s: s | {"audio_projection.0.weight": torch.ones(512, 96)}, r"expected \[512, 128\]"),
        (lambda s: s | {"more.weight": torch.ones(1)}, "unexpected more.weight"),
        (
            lambda s: s | {SHARED: s[SHARED][:40], COPY: s[COPY][:40]},
            "needs the tokenizer of google/flan-t5-large",
        ),
        (lambda s: {"epoch": 3}, "contains no named weights"),
    ],
)
def test_other_files_are_one_line_errors(change, message, tmp_path):
    file = write(tmp_path, change(dict(weights("reclap"))))
    with pytest.raises(InputError, match=message) as error:
        Reclap(file)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_and_other_tokenizer_are_one_line_errors(alm_folder, tmp_path):
    with pytest.raises(InputError, match=r"model_type 'clap'\); expected a file of weights"):
        Reclap(str(alm_folder))
    file = write(tmp_path, weights("reclap"))
    word_pieces().save_pretrained(tmp_path)  # padding 0 too, but no end
    with pytest.raises(InputError, match="needs the tokenizer of google/flan-t5-large"):
        Reclap(file)
