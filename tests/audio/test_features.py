"""Every front end is compared with the transformers feature extractor that it replaces."""

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import pad
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from zsfuse_ray.audio.features import (
    AstFbank,
    ClapMel,
    SeamlessFbank,
    Waveforms,
    WhisperMel,
)
from zsfuse_ray.audio.resample import resample

SECONDS = (0.3, 1.0, 3.0, 7.0, 10.0)
TOLERANCE = {"rtol": 0, "atol": 1e-4}


def noise(rate: int) -> torch.Tensor:
    """Return ten seconds of noise with a speech-like falling spectrum and a stretch of digital silence."""
    samples = torch.randn(10 * rate, generator=torch.Generator().manual_seed(1)).cumsum(0)
    samples = samples.diff(prepend=samples[:1]) + 0.02 * samples.sin()
    samples[rate : rate + rate // 2] = 0
    return 0.2 * samples / samples.abs().max()


@pytest.fixture(params=["noise", "speech"])
def clips(request):
    """Return a function from a rate to clips of SECONDS."""

    def at(rate: int) -> list[torch.Tensor]:
        if request.param == "noise":
            samples = noise(rate)
        else:
            file = request.getfixturevalue("shared") / "longform" / "mixed" / "jfk.flac"
            audio, native = soundfile.read(file, dtype="float32", always_2d=True)
            samples = resample(torch.from_numpy(audio[:, 0].copy()), native, rate)
        return [samples[: int(s * rate)] for s in SECONDS]

    return at


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_clap_mel(clips, truncation):
    extractor = ClapFeatureExtractor(truncation=truncation, padding="pad", frequency_min=50)
    batch = clips(48000)
    expected = np.stack([extractor(c.numpy(), sampling_rate=48000)["input_features"][0][0] for c in batch])
    got = ClapMel(extractor)(batch)
    assert got.shape == (len(SECONDS), 1, 1001, 64)
    torch.testing.assert_close(got[:, 0], torch.from_numpy(expected), **TOLERANCE)


def test_clap_mel_of_repeat_padded_input():
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    clip = noise(48000)[: 3 * 48000]
    expected = extractor(clip.numpy(), sampling_rate=48000, return_tensors="pt")["input_features"]
    torch.testing.assert_close(ClapMel(extractor)([clip.repeat(3)]), expected, **TOLERANCE)


@pytest.mark.parametrize("bins", [80, 128])
def test_whisper_mel(clips, bins):
    extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=10)
    batch = clips(16000)
    expected = [
        extractor(c.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0] for c in batch
    ]
    got = WhisperMel(extractor)(batch)["input_features"]
    torch.testing.assert_close(got, torch.stack(expected), **TOLERANCE)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_mel_bins": 64, "max_length": 1100, "do_normalize": False}, {"mean": -5.0, "std": 3.0}],
)
def test_ast_fbank(clips, options):
    extractor = ASTFeatureExtractor(**options)
    batch = clips(16000)
    expected = [extractor(c.numpy(), sampling_rate=16000, return_tensors="pt").input_values[0] for c in batch]
    got = AstFbank(extractor)(batch)["input_values"]
    # Both compute in float32, whose error in quiet bins is larger without normalisation.
    tolerance = TOLERANCE if extractor.do_normalize else {"rtol": 0, "atol": 1e-3}
    torch.testing.assert_close(got, torch.stack(expected), **tolerance)


def test_ast_window_is_exactly_max_length():
    fbank = AstFbank(ASTFeatureExtractor(max_length=128))
    assert fbank.fbank.frames(fbank.window) == 128
    assert fbank.fbank.frames(fbank.window - 1) == 127


@pytest.mark.parametrize(("bins", "stride"), [(80, 2), (40, 4), (64, 3), (80, 1)])
def test_seamless_fbank(clips, bins, stride):
    extractor = SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins, stride=stride)
    # Lengths with every remainder of frames modulo the stride.
    batch = [clip[: len(clip) - 160 * i] for i, clip in enumerate(clips(16000))]
    got = SeamlessFbank(extractor)(batch)
    for row, clip in enumerate(batch):
        expected = extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt")
        frames = expected["input_features"].shape[1]
        torch.testing.assert_close(
            got["input_features"][row, :frames], expected["input_features"][0], **TOLERANCE
        )
        assert not got["input_features"][row, frames:].any()
        assert not got["attention_mask"][row, frames:].any()
        if stride > 1:  # the reference's mask is empty for a stride of 1
            assert got["attention_mask"][row, :frames].tolist() == expected["attention_mask"][0].tolist()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_waveforms(normalize, masked):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=masked)
    batch = [noise(16000)[:n] + 0.1 for n in (16000, 800, 5000)]
    got = Waveforms(extractor)(batch)
    assert ("attention_mask" in got) == masked
    for row, clip in enumerate(batch):
        expected = extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt").input_values[0]
        torch.testing.assert_close(
            got["input_values"][row], pad(expected, (0, 16000 - len(clip))), rtol=0, atol=1e-5
        )
        if masked:
            assert got["attention_mask"][row].sum() == len(clip)


@pytest.mark.parametrize(
    "module",
    [
        ClapMel(ClapFeatureExtractor(truncation="rand_trunc")),
        WhisperMel(WhisperFeatureExtractor(chunk_length=10)),
        AstFbank(ASTFeatureExtractor()),
        SeamlessFbank(SeamlessM4TFeatureExtractor()),
        Waveforms(Wav2Vec2FeatureExtractor(return_attention_mask=True)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_features_do_not_depend_on_the_batch(module):
    loud, quiet = noise(16000)[: 4 * 16000], 0.001 * noise(16000)[16000 * 2 : 16000 * 3 + 77]

    def first(features):
        return features if isinstance(features, torch.Tensor) else next(iter(features.values()))

    alone = first(module([quiet]))[0]
    batched = first(module([loud, quiet]))[1]
    torch.testing.assert_close(batched[tuple(map(slice, alone.shape))], alone, rtol=0, atol=1e-6)


def test_silence_gives_finite_features():
    silence = [torch.zeros(16000)]
    for module in (
        WhisperMel(WhisperFeatureExtractor(chunk_length=10)),
        AstFbank(ASTFeatureExtractor()),
        SeamlessFbank(SeamlessM4TFeatureExtractor()),
        Waveforms(Wav2Vec2FeatureExtractor()),
    ):
        assert all(value.isfinite().all() for value in module(silence).values())
