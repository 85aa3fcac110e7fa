"""Training of the default model's heads on a small trunk and corpora, its options, and its installation."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertModel, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperModel

from dev.mini import recipe
from dev.mini.__main__ import main
from dev.mini.options import MiniConfig
from dev.mini.vectors import LAYERS, new_network
from tests.jobs.jobs_support import speech, write_wav
from tests.models.tiny_pooled import WORDS, word_tokenizer
from zsfuse_ray.config.options import build, parse
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.checkpoints.find import resolve

TRUNK = {
    "d_model": 16, "encoder_layers": LAYERS + 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> Path:
    """A Whisper model, with a decoder, as on the hub."""
    folder = tmp_path_factory.mktemp("whisper")
    WhisperModel(WhisperConfig(**TRUNK, pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained(
        folder
    )
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("build") / "text"
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def clips(folder: Path) -> pa.Table:
    rows = []
    for n in range(24):
        path = write_wav(folder / f"{n}.wav", speech(1, seed=n))
        row = dict.fromkeys(CLIPS.names) | {
            "uri": str(path),
            "corpus": "emodb",
            "emotion": ("neutral", "sad")[n % 2],
        }
        rows.append(row | {"speaker": f"s{n % 4}", "split": "test" if n % 4 == 3 else "train"})
    return pa.Table.from_pylist(rows, schema=CLIPS)


def test_heads_are_trained_and_saved_with_a_card(init, text, tmp_path, monkeypatch) -> None:
    table = clips(tmp_path / "audio")
    monkeypatch.setattr(recipe, "load", lambda sources, split: table)
    given = {"corpora": "data", "output": str(text.parent), "parts": "heads", "init": str(init), "seed": 3}
    config = build(MiniConfig, given)
    main([part for name, value in given.items() for part in (f"--{name}", str(value))])
    folder = text.parent / "mini"
    specialist = load(parse_spec(f"pooled:{folder}", "specialist"))
    alm = load(parse_spec(f"pooled-alm:{folder}", "alm"))
    assert specialist.labels == ("neutral", "sad")
    network = specialist._trunk.network
    trained = np.load(text.parent / "vectors.npz")["vectors"][[n for n in range(24) if n % 4 < 3]]
    np.testing.assert_allclose(network.mean, trained.mean(axis=0), atol=2e-3)  # saved in 16 bits
    assert len(network.trunk.layers) == LAYERS
    assert alm.embed_text(["sad"])[0].shape == (1, 8)
    found = resolve(str(folder))
    assert (found.licence, found.trained_on) == ("free for research", ("emodb",))
    card = (folder / "README.md").read_text()
    assert "| emodb | train | 18 | 3 | neutral 12, sad 6 |" in card
    assert " ".join(recipe.command(config)) in card
    for written in (card, (folder / "config.json").read_text()):
        assert str(text.parent) not in written
        assert str(init) not in written
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(recipe, "Trunk", lambda *parts: None)  # vectors of the first run are reused
    with pytest.raises(AttributeError):
        recipe.train_heads(config)
    assert (folder / "model.safetensors").read_bytes() == before


def test_trunk_is_the_encoder_of_a_whole_model_or_the_encoder_alone(init, text, tmp_path) -> None:
    whole = WhisperModel.from_pretrained(init)
    whole.encoder.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    for place in (init, tmp_path):
        network, extractor, _ = new_network(str(place), text, ("neutral", "sad"), 8)
        expected = {name: value for name, value in whole.encoder.state_dict().items() if ".3." not in name}
        for name, value in network.trunk.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
        assert extractor.sampling_rate == 16_000


def test_a_trunk_with_too_few_layers_is_refused(text, tmp_path) -> None:
    WhisperEncoder(WhisperConfig(**TRUNK | {"encoder_layers": 2})).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="2 encoder layers, at least 3 needed"):
        new_network(str(tmp_path), text, ("neutral", "sad"), 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpora": ""}, "--corpora is needed"),
        ({"parts": "heads,figure"}, 'no figure .did you mean "figures"'),
    ],
)
def test_invalid_options(changed, message):
    with pytest.raises(InputError, match=message):
        build(MiniConfig, {"corpora": "data", "output": "out"} | changed)


def test_models_without_evaluation_are_not_installed(tmp_path):
    with pytest.raises(InputError, match="not evaluated"):
        recipe.install(tmp_path, tmp_path / "weights")


def test_command_of_a_card_is_valid():
    """It parses to the same options, for the heads alone."""
    given = {"corpora": "corpora", "output": "build", "seed": 3, "parts": "heads"}
    config = build(MiniConfig, given)
    assert parse(MiniConfig, recipe.command(config)[3:], "")[0] == config


def test_invalid_command_line():
    with pytest.raises(InputError, match="--corpora is needed"):
        main(["--output", "out"])
