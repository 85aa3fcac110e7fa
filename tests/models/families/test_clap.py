"""CLAP compared with transformers' own feature extractor, tokenizer and model."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoTokenizer, ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel

from tests.models.seeded_weights import seeded_state
from tests.models.speech_clips import podcast_clips
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import windows
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.models.families.clap import Clap

SECONDS = (0.3, 1.0, 3.0, 7.0, 10.0)
CLIPS = [speechlike(seconds, 48000, seed) for seed, seconds in enumerate(SECONDS)]
TILED = [clip.repeat(480000 // len(clip)) for clip in CLIPS]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module", params=["alm_folder", "fused_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(folder):
    return Clap(str(folder))


def test_audio_embeddings_equal_transformers(model, folder):
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    reference = ClapModel.from_pretrained(folder).eval()
    expected = []
    for clip in CLIPS:
        features = extractor(clip.numpy(), sampling_rate=48000, return_tensors="pt")
        features["is_longer"][:] = False  # the extractor of a fusion model marks a random clip
        with torch.inference_mode():
            expected.append(reference.get_audio_features(**features).pooler_output[0])
    got = model.embed_audio(TILED)
    torch.testing.assert_close(got, torch.stack(expected), **CLOSE)
    assert (got @ got.T).min() < 0.9999  # clips do differ


def seeded_folder(folder, alm_folder, fusion=False, **audio):
    """Write a CLAP whose weights make clips differ (transformers' initial weights hardly do)."""
    config = ClapConfig.from_pretrained(alm_folder)
    audio |= {"enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    config.audio_config = ClapAudioConfig(**(config.audio_config.to_dict() | audio))
    network = ClapModel(config)
    floats = {key: value.shape for key, value in network.state_dict().items() if value.is_floating_point()}
    state = seeded_state(floats, 0)
    state["audio_model.audio_encoder.batch_norm.running_mean"] -= 40  # decibels
    state["audio_model.audio_encoder.batch_norm.running_var"] *= 300
    network.load_state_dict(state, strict=False)
    network.save_pretrained(folder)
    truncation = "fusion" if fusion else "rand_trunc"
    ClapFeatureExtractor(truncation=truncation, frequency_min=50).save_pretrained(folder)
    for file in alm_folder.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def assert_real_clips_agree(folder, clips):
    """Embeddings equal transformers'; for a clip longer than the window, the mean over its windows."""
    model = Clap(str(folder))
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    reference = ClapModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encoded(clip):
        features = extractor(clip.numpy(), sampling_rate=48000, return_tensors="pt")
        features["is_longer"][:] = False
        return normalize(reference.get_audio_features(**features).pooler_output[0], dim=0)

    expected = []
    for clip in clips:
        parts = [n / len(clip) * encoded(clip[i : i + n]) for i, n in windows(len(clip), 480000)]
        expected.append(normalize(torch.stack(parts).sum(0), dim=0))
    got, _ = embed_clips(model, clips, [1], batch_s=20)
    torch.testing.assert_close(got[:, 0], torch.stack(expected), rtol=0, atol=1e-4)
    distances = torch.cdist(got[:, 0], got[:, 0], p=float("inf"))
    assert distances[~torch.eye(len(clips), dtype=torch.bool)].min() > 0.01


@pytest.mark.parametrize("fusion", [False, True])
def test_real_audio_embeddings_equal_transformers(alm_folder, tmp_path, shared, fusion):
    folder = seeded_folder(tmp_path, alm_folder, fusion)
    assert_real_clips_agree(folder, list(podcast_clips(shared).values()))


def test_larger_clap_equals_transformers(alm_folder, tmp_path, shared):
    """The shapes of laion/larger_clap_general and laion/larger_clap_music_and_speech."""
    htsat_base = {
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 128,
        "hidden_size": 1024,
        "depths": [2, 2, 12, 2],
        "num_attention_heads": [4, 8, 16, 32],
        "num_hidden_layers": 4,
    }
    clips = podcast_clips(shared)
    assert_real_clips_agree(seeded_folder(tmp_path, alm_folder, **htsat_base), [clips[1], clips[12]])


def test_fused_model_uses_its_own_filters(alm_folder, fused_folder):
    mels = [Clap(str(f))._mel(TILED[1:2]) for f in (alm_folder, fused_folder)]
    assert (mels[0] - mels[1]).abs().max() > 1


def test_embeddings_do_not_depend_on_batch_or_random_state(model):
    together = model.embed_audio(TILED)
    np.random.seed(7)  # noqa: NPY002 (what transformers' extractor draws from)
    torch.testing.assert_close(torch.cat([model.embed_audio([clip]) for clip in TILED]), together, **CLOSE)
    assert torch.equal(model.embed_audio(TILED), together)


def test_text_embeddings_equal_transformers(model, folder):
    tokenizer, reference = AutoTokenizer.from_pretrained(folder), ClapModel.from_pretrained(folder).eval()
    texts = ["this person is feeling happy.", "", "wütend " * 9, "this person is feeling sad. " * 12]
    with torch.inference_mode():
        expected = [
            reference.get_text_features(**tokenizer(t, return_tensors="pt")).pooler_output[0] for t in texts
        ]
    got, truncated = model.embed_text(texts)
    torch.testing.assert_close(got, torch.stack(expected), **CLOSE)
    assert truncated == [False] * 4
    assert (got @ got.T).min() < 0.999


def test_long_texts_are_truncated_and_reported(model):
    assert model.max_tokens == 512
    whole, more, far_more = "a" * 510, "a" * 511, "a" * 2000  # one token per letter, plus two special ones
    embeddings, truncated = model.embed_text([whole, more, far_more])
    assert truncated == [False, True, True]
    torch.testing.assert_close(embeddings[1:], embeddings[:1].expand(2, -1), **CLOSE)


def test_attributes(model):
    assert (model.kind, model.labels, model.same_length) == ("alm", None, False)
    assert (model.sample_rate, model.window, model.fill, model.dim) == (48000, 480000, "repeat_pad", 32)
    assert model.scale == pytest.approx(1 / 0.07)


def test_embeddings_are_normalised_also_of_silence(model):
    embeddings = model.embed_audio([torch.zeros(48000), TILED[0]])
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(embeddings, normalize(embeddings, dim=1))


def test_bfloat16_is_close(folder, model):
    embeddings = Clap(str(folder), dtype=torch.bfloat16).embed_audio(TILED[1:2])
    assert embeddings.dtype == torch.float32
    assert (embeddings @ model.embed_audio(TILED[1:2]).T).item() > 0.99


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "wav2vec2"}, "not a CLAP model.*'wav2vec2'"),
        ("config.json", {"model_type": None}, "not a CLAP model"),
        ("preprocessor_config.json", {"padding": "mirror"}, "unknown padding mirror"),
    ],
)
def test_other_checkpoints_are_errors(alm_folder, tmp_path, file, changes, message):
    copy = shutil.copytree(alm_folder, tmp_path / "copy")
    (copy / file).write_text(json.dumps({**json.loads((copy / file).read_text()), **changes}))
    with pytest.raises(InputError, match=message):
        Clap(str(copy))


def test_single_file_of_weights_is_an_error(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "best.pt")
    with pytest.raises(InputError, match=r"best\.pt is a file of weights.*such as laion:.*best\.pt"):
        Clap(str(tmp_path / "best.pt"))


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json", "tokenizer.json"])
def test_missing_file_is_a_one_line_error(alm_folder, tmp_path, file):
    copy = shutil.copytree(alm_folder, tmp_path / "copy")
    (copy / file).unlink()
    with pytest.raises(InputError, match="cannot load") as error:
        Clap(str(copy))
    assert "\n" not in str(error.value)
