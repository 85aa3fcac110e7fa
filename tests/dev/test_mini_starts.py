"""Initial models of the offline default: standardised mel bands, preserved variance, stock classes."""

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from dev.mini import starts
from tests.training.training_support import table_of
from zsfuse_ray.audio.demo import PROSODIES, speech_like
from zsfuse_ray.corpora.clips import CLIPS


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips of constant loudness, so that nothing is trimmed; the last is in dev."""
    folder = tmp_path_factory.mktemp("clips")
    table = table_of(["angry", "happy", "sad", "sad"], ["train", "train", "train", "dev"]).to_pylist()
    for n, row in enumerate(table):
        row["uri"] = str(folder / f"{n}.wav")
        samples = speech_like(1.2, PROSODIES[n % len(PROSODIES)], seed=n)
        noise = np.random.default_rng(n).normal(0, 0.05, len(samples))
        soundfile.write(row["uri"], np.clip(samples + noise, -0.99, 0.99), 16_000, subtype="PCM_16")
    return pa.Table.from_pylist(table, schema=CLIPS)


def extractor():
    return WhisperFeatureExtractor(
        feature_size=64, sampling_rate=16_000, hop_length=320, n_fft=512, chunk_length=2
    )


def test_mel_statistics_equal_those_of_the_stock_extractor_on_training_clips(clips):
    mean, std = starts.mel_statistics(extractor(), clips, seed=3)
    frames = []
    for row in clips.to_pylist()[:3]:
        samples, _ = soundfile.read(row["uri"], dtype="float32")
        features = extractor()(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0]
        frames.append(features[:, : len(samples) // 320])
    values = np.concatenate(frames, axis=1)
    np.testing.assert_allclose(mean, values.mean(axis=1), atol=2e-3)
    np.testing.assert_allclose(std, values.std(axis=1, ddof=1), atol=2e-3)


def test_initial_model_is_a_stock_folder_determined_by_its_seed(clips, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        starts.write_specialist_start(tmp_path / name, clips, seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "a")
    assert sorted(model.config.label2id) == ["angry", "happy", "sad"]
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path / "a")
    features = loaded(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="pt")
    assert model(**features).logits.shape == (1, 3)


def test_convolutions_have_the_variance_of_the_gain():
    """Normal mel bands give the variance gain² and the bias' 0.25, whatever their own scale."""
    settings = {"num_mel_bins": 64, "d_model": 256, "encoder_layers": 1, "decoder_layers": 1}
    settings |= {"encoder_attention_heads": 4, "encoder_ffn_dim": 16, "max_source_positions": 50}
    torch.manual_seed(0)
    encoder = WhisperForAudioClassification(WhisperConfig(**settings, vocab_size=8, pad_token_id=0)).encoder
    positions = encoder.embed_positions.weight.clone()
    mean, std = torch.linspace(-2, 1, 64), torch.linspace(0.1, 3, 64)
    torch.manual_seed(0)
    starts.standardise(encoder, mean, std)
    mels = mean[:, None] + std[:, None] * torch.randn(8, 64, 100)
    out = encoder.conv1(mels).detach()[:, :, 1:-1]  # edges see padding
    assert float(out.var()) == pytest.approx(1.5**2 + 0.5**2, rel=0.15)
    assert float(out.mean()) == pytest.approx(0, abs=0.1)
    assert torch.allclose(encoder.embed_positions.weight, 0.02 * positions)
