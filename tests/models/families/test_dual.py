"""Dual encoders compared with manually assembled parts of transformers."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

from tests.models.tiny_duals import AUDIO, TEXT, write_dual
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.models.families.dual import Dual
from zsfuse_ray.models.networks.dual import DualConfig, DualNetwork

RATE = 16000
SECONDS = (0.4, 1.0, 1.03, 1.9)
CLIPS = [speechlike(seconds, RATE, seed) for seed, seconds in enumerate(SECONDS)]
TEXTS = ["this person is feeling happy.", "", "wütend " * 9, "sad"]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that returns the folder of a dual encoder, written once."""
    made = {}

    def folder(audio="wav2vec2-bert", text="bert", **options):
        key = (audio, text, *options.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("dual") / f"{audio}-{text}"
            write_dual(made[key], audio, text, **options)
        return made[key]

    return folder


def filled(model: Dual, clips):
    """Return the clips as passed on by amplification: tiled if the model tiles."""
    if model.fill != "repeat_pad":
        return clips
    return [clip.repeat(model.window // len(clip)) for clip in clips]


@pytest.mark.parametrize("audio", AUDIO)
def test_embeddings_do_not_depend_on_the_batch(folders, audio):
    model = Dual(str(folders(audio, audio_pooling="pooler" if audio == "htsat" else "mean")))
    clips = filled(model, CLIPS)
    alone = torch.cat([model.embed_audio([clip]) for clip in clips])
    assert alone.shape == (4, model.dim)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(4))
    assert (alone @ alone.T - 2 * torch.eye(4)).max() < 0.99999  # clips do differ
    if model.same_length:
        together = model.embed_audio([clips[1], clips[1].flip(0)])[:1]
        torch.testing.assert_close(together, alone[1:2], **CLOSE)
    else:
        torch.testing.assert_close(model.embed_audio(clips), alone, **CLOSE)
        torch.testing.assert_close(model.embed_audio(clips[::-1]), alone.flip(0), **CLOSE)


def test_same_length_only_without_a_mask(folders):
    assert {name for name in AUDIO if name != "htsat" and Dual(str(folders(name))).same_length} == {
        "wav2vec2-group"
    }


@pytest.mark.parametrize("audio", ["wav2vec2", "wav2vec2-group", "wav2vec2-bert", "ast"])
def test_audio_is_the_projected_mean_of_the_stock_encoder(folders, audio):
    folder = folders(audio)
    network = DualNetwork.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    encoder = AutoModel.from_config(network.config.audio_config).eval()
    encoder.load_state_dict(network.audio_model.state_dict())
    clip = CLIPS[1]
    with torch.inference_mode():
        features = extractor(clip.numpy(), sampling_rate=RATE, return_tensors="pt")
        hidden = encoder(**features).last_hidden_state
        expected = nn.functional.normalize(network.audio_projection(hidden.mean(dim=1)), dim=-1)
    torch.testing.assert_close(Dual(str(folder)).embed_audio([clip]), expected, **CLOSE)


@pytest.mark.parametrize(("audio", "frames"), [("whisper", 48), ("resnet-ast", 12), ("resnet-kaldi", 12)])
def test_mean_excludes_padding(folders, audio, frames):
    """0.95 s are 95 frames (Kaldi: 93); frames: number of outputs after a stride of 2 or 8."""
    model = Dual(str(folders(audio)))
    inputs = model.features([CLIPS[1][:15200], CLIPS[3]])
    with torch.inference_mode():
        hidden = model.network.audio_model(**{n: v for n, v in inputs.items() if n != "filled"})
        hidden = hidden.last_hidden_state[0]
        if hidden.ndim == 3:
            hidden = hidden.mean(dim=2).T
        expected = model.network.audio_projection(hidden[:frames].mean(dim=0))
        got = model.audio(inputs)[0]
    assert len(hidden) > frames
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("text", TEXT)
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_text_pooling(folders, text, pooling):
    folder = folders(text=text, text_pooling=pooling)
    model, tokenizer = Dual(str(folder)), AutoTokenizer.from_pretrained(folder)
    expected = []
    for line in TEXTS:
        with torch.inference_mode():
            output = model.network.text_model(torch.tensor([tokenizer(line).input_ids]))
            pooled = {
                "mean": output.last_hidden_state.mean(dim=1),
                "cls": output.last_hidden_state[:, 0],
                "pooler": output.pooler_output,
            }[pooling]
            expected.append(nn.functional.normalize(model.network.text_projection(pooled), dim=-1))
    got, truncated = model.embed_text(TEXTS)
    torch.testing.assert_close(got, torch.cat(expected), **CLOSE)
    assert truncated == [False] * 4


@pytest.mark.parametrize(
    ("text", "positions"), [("bert", 512), ("roberta", 510), ("clap", 512), ("mpnet", 510)]
)
def test_long_texts_are_truncated_to_the_number_of_positions(folders, text, positions):
    model = Dual(str(folders(text=text)))
    assert model.max_tokens == positions
    whole, more = "a" * (positions - 2), "a" * (positions + 700)
    embeddings, truncated = model.embed_text([whole, more])
    assert truncated == [False, True]
    torch.testing.assert_close(embeddings[0], embeddings[1], **CLOSE)


@pytest.mark.parametrize("audio", ["wav2vec2", "resnet-clap", "whisper"])
def test_save_and_load_round_trip(folders, tmp_path, audio):
    model = Dual(str(folders(audio)))
    model.save(tmp_path)
    again = Dual(str(tmp_path))
    assert torch.equal(again.embed_audio(CLIPS), model.embed_audio(CLIPS))
    assert torch.equal(again.embed_text(TEXTS)[0], model.embed_text(TEXTS)[0])
    assert (again.sample_rate, again.window, again.fill) == (model.sample_rate, model.window, model.fill)


def test_half_precision_files_load_as_float32_without_overflow(folders, tmp_path):
    model = Dual(str(folders("resnet-kaldi")))
    means = [b for name, b in model.network.named_buffers() if name.endswith("running_mean")]
    means[-1][0] = 1e6
    model.save(tmp_path, torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    kinds = [value.dtype for value in stored.values() if value.is_floating_point()]
    assert (kinds.count(torch.float32), kinds.count(torch.float16) > 50) == (1, True)
    again = Dual(str(tmp_path))
    assert {p.dtype for p in again.network.parameters()} == {torch.float32}
    cosine = (again.embed_text(TEXTS)[0] * model.embed_text(TEXTS)[0]).sum(dim=1)
    assert 0.999 < cosine.min() < 1
    assert torch.allclose(again.embed_audio(CLIPS), model.embed_audio(CLIPS), atol=0.01)


def test_folder_name_implies_the_family(folders):
    folder = str(folders())
    assert str(parse_spec(folder, "alm")) == f"dual:{folder}"
    model = load(parse_spec(folder, "alm"))
    assert (model.kind, model.labels, model.sample_rate, model.window) == ("alm", None, RATE, None)
    assert model.scale == pytest.approx(1 / 0.07)


def test_every_repeat_is_encoded_without_a_window(folders):
    model = Dual(str(folders("resnet-kaldi")))
    embeddings, inputs = embed_clips(model, CLIPS, (1, 3), batch_s=9)
    assert (embeddings.shape, inputs) == ((4, 2, 16), 8)
    torch.testing.assert_close(embeddings[:, 0], model.embed_audio(CLIPS), **CLOSE)
    torch.testing.assert_close(embeddings[:, 1], model.embed_audio([c.repeat(3) for c in CLIPS]), **CLOSE)


def test_fill_follows_the_feature_extractor(folders):
    model = Dual(str(folders("resnet-clap")))
    assert (model.window, model.fill) == (2 * RATE, "repeat_pad")
    assert Dual(str(folders("resnet-ast"))).fill == "none"


@pytest.mark.parametrize("audio", AUDIO)
def test_clips_shorter_than_a_frame_are_encoded(folders, audio):
    model = Dual(str(folders(audio)) if audio != "htsat" else str(folders(audio, audio_pooling="pooler")))
    assert model.embed_audio([CLIPS[0][:1]]).isfinite().all()


def test_gradients_reach_both_towers(folders):
    model = Dual(str(folders("resnet-kaldi")))
    model.network.requires_grad_(True)
    audio = model.audio(model.features(CLIPS))
    text = model.text(*model.pad_tokens(model.tokens(TEXTS)[0]))
    (audio * text).sum().backward()
    for name in ("audio_model", "text_model", "audio_projection", "text_projection"):
        # a pooler unused by the mean has no gradient
        part = getattr(model.network, name).named_parameters()
        assert all(p.grad is not None and p.grad.isfinite().all() for n, p in part if "pooler" not in n), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "clap"}, "not a dual encoder.*'clap'"),
        ({"audio_config": {"model_type": "wavlmm"}}, "audio_config .* unknown model_type: 'wavlmm'"),
        ({"text_config": None}, "text_config .* unknown model_type"),
        ({"projection": "mlpp"}, 'unknown projection mlpp.*did you mean "mlp"'),
        ({"text_pooling": "max"}, "unknown text_pooling max .one of cls, mean, pooler"),
        ({"projection_dim": 24}, "cannot load this checkpoint"),
        ({"projection": "mlp"}, "not a valid DualNetwork checkpoint: missing"),
        ({"audio_pooling": "pooler"}, "parts are incompatible.*pooler_output"),
    ],
)
def test_other_checkpoints_are_one_line_errors(folders, tmp_path, changes, message):
    copy = shutil.copytree(folders(), tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps(json.loads((copy / "config.json").read_text()) | changes))
    with pytest.raises(InputError, match=message) as error:
        Dual(str(copy))
    assert "\n" not in str(error.value)


def test_mismatched_feature_extractor_is_an_error(folders, tmp_path):
    copy = shutil.copytree(folders(), tmp_path / "copy")
    AUDIO["wav2vec2"]()[1].save_pretrained(copy)
    with pytest.raises(InputError, match="parts are incompatible"):
        Dual(str(copy))


def test_config_json_round_trip():
    config = DualConfig(audio_config=AUDIO["ast"]()[0], text_config=TEXT["mpnet"](), projection="mlp")
    again = DualConfig.from_dict(json.loads(config.to_json_string()))
    assert (again.audio_config.model_type, again.text_config.model_type) == (
        "audio-spectrogram-transformer",
        "mpnet",
    )
    assert again.to_dict() == config.to_dict()
