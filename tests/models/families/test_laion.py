"""LAION's files, compared with the package laion-clap."""

import math
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize, pad

from tests.models.speech_clips import podcast_clips
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import filled, windows
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.weights import read_weights
from zsfuse_ray.models.encoding import embed_clips, periodic
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.families.laion import Laion
from zsfuse_ray.models.families.laion_package import LaionPackage

if find_spec("laion_clap") is None:
    pytest.skip("laion-clap is not installed: pip install -e '.[laion]'", allow_module_level=True)

from tests.models.laion_reference import FILE, package, random_state, write

WINDOW = 480_000
CLOSE = {"rtol": 0, "atol": 1e-4}
TEXTS = ["this person is feeling happy.", "", "wütend", "a calm voice"]


def tiled(clip: torch.Tensor, repeats: int = 1) -> torch.Tensor:
    return periodic(clip, 0, filled(len(clip), repeats, WINDOW, "repeat_pad"))


def voice(seconds: float, seed: int = 0) -> torch.Tensor:
    """Return noise with a slow envelope, plus a tone."""
    time = torch.arange(int(seconds * 48000)) / 48000
    return speechlike(seconds, 48000, seed) + 0.3 * torch.sin(2 * torch.pi * 150 * 2**seed * time)


def encoded(module, clip: torch.Tensor) -> torch.Tensor:
    """Return the reference's embedding of a single clip, without rounding to 16 bits."""
    return module.get_audio_embedding_from_data([clip], use_tensor=True)[0].detach()


def spread(embeddings: torch.Tensor) -> float:
    """Return the minimum over pairs of rows of their maximum difference."""
    distances = torch.cdist(embeddings, embeddings, p=math.inf)
    return distances[~torch.eye(len(embeddings), dtype=torch.bool)].min().item()


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def fusion(request):
    return request.param


@pytest.fixture(scope="module")
def small(fusion, tmp_path_factory):
    """The reference with a small audio encoder, and its file."""
    module = package(fusion=fusion, small=True)
    file = write(tmp_path_factory.mktemp("small"), random_state(module))
    module.load_ckpt(str(file), verbose=False)
    return module, file


@pytest.fixture(scope="module")
def model(small):
    return Laion(str(small[1]))


@pytest.fixture(scope="module")
def real(shared):
    return podcast_clips(shared)


def assert_audio_agrees(module, model, real) -> None:
    """Embeddings of real clips equal the reference's; for long ones, the mean over its windows."""
    short = [clip for seconds, clip in real.items() if seconds <= 10]
    expected = torch.stack([encoded(module, clip) for clip in short])
    got = model.embed_audio([tiled(clip) for clip in short])
    torch.testing.assert_close(got, expected, **CLOSE)
    assert spread(expected) > 0.01
    long = [clip for seconds, clip in real.items() if seconds > 10]
    got, inputs = embed_clips(model, long, [1], batch_s=20)
    assert inputs == sum(math.ceil(len(clip) / WINDOW) for clip in long)
    for clip, row in zip(long, got[:, 0], strict=True):
        parts = [n / len(clip) * encoded(module, clip[i : i + n]) for i, n in windows(len(clip), WINDOW)]
        torch.testing.assert_close(row, normalize(torch.stack(parts).sum(0), dim=0), **CLOSE)


def test_real_audio_embeddings_equal_the_reference(small, model, real):
    assert_audio_agrees(small[0], model, real)


def test_audio_embeddings_equal_the_reference(small, model):
    clips = [voice(seconds, seed) for seed, seconds in enumerate((0.3, 1, 3, 7, 10))]
    expected = torch.stack([encoded(small[0], clip) for clip in clips])
    torch.testing.assert_close(model.embed_audio([tiled(clip) for clip in clips]), expected, **CLOSE)
    assert spread(expected) > 0.005


def test_text_embeddings_equal_the_reference(small, model):
    texts = [*TEXTS, "x" * 75, "x" * 76, "this person is feeling sad. " * 12]  # plus two special tokens
    expected = torch.from_numpy(small[0].get_text_embedding(texts))
    got, truncated = model.embed_text(texts)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert truncated == [False] * 5 + [True] * 2
    assert spread(expected[:5]) > 0.01
    one_by_one = torch.cat([model.embed_text([text])[0] for text in texts])
    torch.testing.assert_close(one_by_one, got, rtol=0, atol=1e-5)


def test_attributes(model, fusion):
    assert (model.sample_rate, model.window, model.fill, model.dim) == (48000, WINDOW, "repeat_pad", 512)
    assert (model.max_tokens, model.licence, model.same_length) == (77, "CC0-1.0", False)
    assert model.scale == pytest.approx(math.exp(model.network.logit_scale_a.item()))
    config = model.network.config.audio_config
    assert (list(config.depths), list(config.num_attention_heads)) == ([1, 1, 2, 1], [1, 2, 2, 4])
    assert config.enable_fusion == fusion


def test_scale_is_read_from_the_file(small, model):
    assert model.scale == pytest.approx(small[0].model.get_logit_scale()[0].item())
    assert model.scale != pytest.approx(1 / 0.07, rel=1e-2)


def test_embeddings_do_not_depend_on_batch_or_random_state(model):
    clips = [tiled(voice(seconds, seed)) for seed, seconds in enumerate((0.3, 3, 10))]
    together = model.embed_audio(clips)
    np.random.seed(7)  # noqa: NPY002 (what the reference draws from)
    alone = torch.cat([model.embed_audio([clip]) for clip in clips])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    assert torch.equal(model.embed_audio(clips), together)


def test_bfloat16_is_close_in_any_batch(small, model):
    clips = [tiled(voice(seconds, seed)) for seed, seconds in enumerate((0.3, 3))]
    coarse = Laion(str(small[1]), dtype=torch.bfloat16)
    together = coarse.embed_audio(clips)
    alone = torch.cat([coarse.embed_audio([clip]) for clip in clips])
    torch.testing.assert_close(alone, together, rtol=0, atol=5e-3)
    assert (together * model.embed_audio(clips)).sum(1).min() > 0.99


def test_effects_of_amplification_match_the_reference(small):
    from laion_clap.training.data import get_audio_features

    config = small[0].model_cfg["audio_cfg"]
    for samples in (1, 7, 250, 333, 500, 999, 1000):
        clip = torch.arange(1.0, samples + 1)
        for repeats in range(1, 1 + 1000 // samples):
            sample = get_audio_features(
                {}, clip.repeat(repeats), 1000, "rand_trunc", "repeatpad", audio_cfg=config
            )
            known = periodic(clip, 0, filled(samples, repeats, 1000, "repeat_pad"))
            assert torch.equal(sample["waveform"], pad(known, (0, 1000 - len(known))))
            again = get_audio_features({}, known, 1000, "rand_trunc", "repeatpad", audio_cfg=config)
            assert torch.equal(again["waveform"], sample["waveform"])


def test_audio_is_not_rounded_to_16_bits_unlike_the_reference(small, model):
    clip = 4 * voice(1)  # also clipped by the reference
    assert clip.abs().max() > 1
    rounded = torch.from_numpy(small[0].get_audio_embedding_from_data([clip.numpy()])[0])
    as_it_does = (clip.clamp(-1, 1) * 32767).to(torch.int16).float() / 32767
    torch.testing.assert_close(model.embed_audio([tiled(as_it_does)])[0], rounded, **CLOSE)
    ours = model.embed_audio([tiled(clip)])[0]
    torch.testing.assert_close(ours, encoded(small[0], clip), **CLOSE)
    assert (ours - rounded).abs().max() > 5e-4


def test_rounding_matters_little_without_clipping(small, model):
    clip = voice(1)
    rounded = torch.from_numpy(small[0].get_audio_embedding_from_data([clip.numpy()])[0])
    assert (model.embed_audio([tiled(clip)])[0] @ rounded) > 0.9999


def test_longer_clip_is_not_cropped_at_random(small, model, fusion):
    clip = voice(12) * torch.linspace(0.1, 2, 12 * 48000)
    chances = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        chances.append(encoded(small[0], clip))
    assert (chances[0] - chances[1]).abs().max() > 1e-3
    crops = [embed_clips(model, [clip], [1], long="crop", batch_s=10)[0][0, 0] for _ in range(2)]
    assert torch.equal(*crops)
    torch.testing.assert_close(crops[0], encoded(small[0], clip[:WINDOW]), **CLOSE)


def test_amplification_beyond_the_window_encodes_the_head(small, model):
    clip = voice(4)
    got, _ = embed_clips(model, [clip], [1, 3], batch_s=10)
    torch.testing.assert_close(got[0, 1], encoded(small[0], clip.repeat(3)[:WINDOW]), **CLOSE)
    assert (got[0, 1] - got[0, 0]).abs().max() > 1e-3


@pytest.fixture
def other(small, tmp_path):
    """Return a function that writes a changed file beside the tokenizer and returns its path."""
    for file in small[1].parent.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = read_weights(resolve(str(small[1])), keys=("state_dict",))

    def write_other(change=lambda state: state, name="other.pt"):
        changed = change(dict(state))
        if name.endswith("safetensors"):
            save_file({key: value.contiguous() for key, value in changed.items()}, tmp_path / name)
        else:
            torch.save(changed, tmp_path / name)
        return str(tmp_path / name)

    return write_other


def without(pattern: str):
    return lambda state: {key: value for key, value in state.items() if not re.search(pattern, key)}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda state: state, "plain.pt"),
        (without("position_ids"), "saved-again.pt"),
        (without("spectrogram|logmel|tscam|head|attn_mask|_transform"), "bare.safetensors"),
        (lambda state: {"state_dict": state, "epoch": np.int64(3)}, "nested.pth"),
        (lambda state: {key: value.contiguous() for key, value in state.items()}, "a.pth.tar"),
    ],
    ids=["plain", "saved-again", "bare", "nested", "tar"],
)
def test_storage_variants_give_the_same_embeddings(model, other, change, name):
    again = Laion(other(change, name))
    clip = [tiled(voice(1))]
    assert torch.equal(again.embed_audio(clip), model.embed_audio(clip))
    assert torch.equal(again.embed_text(TEXTS)[0], model.embed_text(TEXTS)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("patch_embed.proj.weight"), "missing audio_branch.patch_embed.proj.weight"),
        (without("audio_branch.norm.bias"), "missing audio_model.audio_encoder.norm.bias"),
        (without("text_branch"), "missing text_branch.embeddings.word_embeddings.weight"),
        (lambda s: {**s, "extra.weight": torch.ones(1)}, r"unexpected extra\.weight \(1 unexpected"),
        (
            lambda s: {**s, "audio_projection.0.weight": torch.ones(512, 96)},
            r"audio_projection.linear1.weight has shape \[512, 96\], expected \[512, 128\]",
        ),
        (lambda s: {**s, "audio_branch.norm.weight": torch.ones(5)}, "has shape|inconsistent sizes"),
        (lambda s: {**s, "audio_branch.bn0.weight": torch.ones(5, 5)}, "expected 1 dimensions"),
        (lambda s: {"encoder.weight": torch.ones(3)}, "not a valid LAION CLAP checkpoint: missing"),
        (lambda s: {"epoch": 3}, "contains no named weights"),
        (lambda s: [1], "contains no named weights"),
    ],
)
@pytest.mark.parametrize("family", [Laion, LaionPackage])
def test_other_files_are_one_line_errors(other, change, message, family):
    file = other(change)
    with pytest.raises(InputError, match=f"{file}: ") as error:
        family(file)
    assert "\n" not in str(error.value)
    if family is Laion:
        assert re.search(message, str(error.value))


@pytest.mark.parametrize("family", [Laion, LaionPackage])
def test_transformers_folder_and_broken_file_are_errors(alm_folder, tmp_path, small, family):
    with pytest.raises(
        InputError, match=f"in transformers' format, not LAION's .pt file; use clap:{alm_folder}"
    ):
        family(str(alm_folder))
    (tmp_path / "half.pt").write_bytes(small[1].read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"half\.pt cannot be read as weights"):
        family(str(tmp_path / "half.pt"))
    with pytest.raises(InputError, match="no such checkpoint folder"):
        family(str(tmp_path / "absent.pt"))


def test_saved_model_is_an_equal_clap_folder(model, tmp_path):
    model.save(tmp_path)
    again = Clap(str(tmp_path))
    clip = [tiled(voice(1))]
    torch.testing.assert_close(again.embed_audio(clip), model.embed_audio(clip), rtol=0, atol=1e-6)
    torch.testing.assert_close(again.embed_text(TEXTS)[0], model.embed_text(TEXTS)[0], rtol=0, atol=1e-6)
    assert (again.max_tokens, again.fill) == (77, "repeat_pad")


def test_folder_with_a_single_file_is_accepted(small, model):
    assert small[1].name == FILE
    by_folder = Laion(str(small[1].parent))
    assert by_folder.revision == model.revision
