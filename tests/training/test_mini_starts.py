"""What the offline default starts from: standardised mel bands, weights that keep sizes, stock classes."""

import numpy as np
import pytest
import soundfile
import torch
from training_support import table_of
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    WhisperFeatureExtractor,
)

from zsfuse_ray.audio.demo import PROSODIES, speech_like
from zsfuse_ray.config.mini import MiniConfig
from zsfuse_ray.config.options import build, parse
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.errors import InputError
from zsfuse_ray.training import mini


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips as loud at their ends as within, so that nothing is trimmed; the last is in dev."""
    folder = tmp_path_factory.mktemp("clips")
    table = table_of(["angry", "happy", "sad", "sad"], ["train", "train", "train", "dev"]).to_pylist()
    for n, row in enumerate(table):
        row["uri"] = str(folder / f"{n}.wav")
        samples = speech_like(1.2, PROSODIES[n % len(PROSODIES)], seed=n)
        noise = np.random.default_rng(n).normal(0, 0.05, len(samples))
        soundfile.write(row["uri"], np.clip(samples + noise, -0.99, 0.99), 16_000, subtype="PCM_16")
    return mini.pa.Table.from_pylist(table, schema=CLIPS)


def extractor():
    return WhisperFeatureExtractor(
        feature_size=64, sampling_rate=16_000, hop_length=320, n_fft=512, chunk_length=2
    )


def test_the_statistics_are_those_of_the_training_clips_as_the_stock_extractor_hears_them(clips):
    mean, std = mini.mel_statistics(extractor(), clips, seed=3)
    frames = []
    for row in clips.to_pylist()[:3]:
        samples, _ = soundfile.read(row["uri"], dtype="float32")
        heard = extractor()(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0]
        frames.append(heard[:, : len(samples) // 320])
    values = np.concatenate(frames, axis=1)
    np.testing.assert_allclose(mean, values.mean(axis=1), atol=2e-3)
    np.testing.assert_allclose(std, values.std(axis=1, ddof=1), atol=2e-3)


def test_a_start_is_a_stock_folder_and_follows_from_its_seed(clips, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        mini.write_specialist_start(tmp_path / name, clips, seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "a")
    assert sorted(model.config.label2id) == ["angry", "happy", "sad"]
    heard = AutoFeatureExtractor.from_pretrained(tmp_path / "a")
    features = heard(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="pt")
    assert model(**features).logits.shape == (1, 3)


def test_convolutions_give_what_the_gain_says():
    """Normal mel bands give the variance gain² and the bias' 0.25, whatever their own scale."""
    settings = {"num_mel_bins": 64, "d_model": 256, "encoder_layers": 1, "decoder_layers": 1}
    settings |= {"encoder_attention_heads": 4, "encoder_ffn_dim": 16, "max_source_positions": 50}
    torch.manual_seed(0)
    encoder = mini.WhisperForAudioClassification(
        mini.WhisperConfig(**settings, vocab_size=8, pad_token_id=0)
    ).encoder
    positions = encoder.embed_positions.weight.clone()
    mean, std = torch.linspace(-2, 1, 64), torch.linspace(0.1, 3, 64)
    torch.manual_seed(0)
    mini.standardise(encoder, mean, std)
    mels = mean[:, None] + std[:, None] * torch.randn(8, 64, 100)
    out = encoder.conv1(mels).detach()[:, :, 1:-1]  # the edges hear padding
    assert float(out.var()) == pytest.approx(1.5**2 + 0.5**2, rel=0.15)
    assert float(out.mean()) == pytest.approx(0, abs=0.1)
    assert torch.allclose(encoder.embed_positions.weight, 0.02 * positions)


def test_both_trainings_are_what_the_presets_say(monkeypatch, tmp_path):
    """train is told each preset, start and split; a part that fails stops the rest."""
    seen = []
    monkeypatch.setattr(mini, "train", lambda config, preset, argv: bool(seen.append((config, preset))))
    monkeypatch.setattr(mini, "load", lambda sources, split: None)
    monkeypatch.setattr(mini, "write_specialist_start", lambda folder, clips, seed: None)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{}")
    given = {"corpora": "data", "output": str(tmp_path), "parts": "text,specialist,alm", "epochs": 2}
    mini.train_parts(build(MiniConfig, given | {"leave_out": "emodb", "seed": 5}))
    assert [preset for _, preset in seen] == ["mini-specialist", "mini-alm"]
    for config, _ in seen:
        assert config.corpus == ("ravdess:data/ravdess", "nemo:data/nemo")
        assert (config.splits, config.epochs, config.seed, config.half) == ("mini", 2, 5, True)
    assert seen[1][0].text == f"{tmp_path}/text"
    heard = AutoFeatureExtractor.from_pretrained(tmp_path / "start_alm")
    assert heard.nb_max_samples == 3 * 16_000
    monkeypatch.setattr(mini, "train", lambda *given: 1)
    with pytest.raises(InputError, match="the same command resumes it"):
        mini.train_parts(build(MiniConfig, given))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"corpora": ""}, "--corpora is needed"),
        ({"parts": "specialist,alms"}, 'no alms .did you mean "alm"'),
        ({"leave_out": "ravdes"}, 'no ravdes .did you mean "ravdess"'),
        ({"leave_out": "ravdess,emodb,nemo"}, "no corpus to train on"),
        ({"leave_out": "emodb", "parts": "install"}, "not installed"),
    ],
)
def test_options_that_do_not_hold(changed, says):
    with pytest.raises(InputError, match=says):
        build(MiniConfig, {"corpora": "data", "output": "out"} | changed)


def test_what_a_copy_is_measured_on():
    options = {"corpora": "data", "output": "out"}
    left = build(MiniConfig, options | {"leave_out": "emodb", "parts": "alm"})
    assert mini.sources(left) == ["ravdess:data/ravdess", "nemo:data/nemo"]
    assert mini.sources(left, tested=True) == ["emodb:data/emodb"]
    whole = build(MiniConfig, options)
    assert mini.sources(whole) == mini.sources(whole, tested=True)


def test_nothing_unmeasured_is_installed(tmp_path):
    with pytest.raises(InputError, match="not measured"):
        mini.install(tmp_path, tmp_path / "weights")


@pytest.mark.parametrize("task", ["specialist", "alm"])
def test_the_presets_hold(task):
    argv = ["--preset", f"mini-{task}", "--init", "x", "--train", "a.csv", "--output", "o"]
    config, _ = parse(TrainConfig, argv, "")
    assert config.task == task
