"""Amplification, windows and batches, tested with a model simple enough to compute by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from transformers import ClapFeatureExtractor, ClapModel

from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.models.families.clap import Clap

RATE = 10


class Echo:
    """Embeds a clip as its zero-padded samples; records the batches. Also a specialist."""

    sample_rate, dim, same_length = RATE, 12, False
    labels = ("mean", "max")

    def __init__(self, window=12, fill="repeat_pad", vector_dim=3):
        self.window, self.fill, self.vector_dim = window, fill, vector_dim
        self.batches: list[list[int]] = []

    def embed_audio(self, clips):
        self.batches.append([len(clip) for clip in clips])
        rows = [torch.nn.functional.pad(clip, (0, self.dim - len(clip))) for clip in clips]
        return normalize(torch.stack(rows), dim=-1)

    def classify(self, clips):
        """Logits: mean and maximum; the vector: sum, minimum and length."""
        self.batches.append([len(clip) for clip in clips])
        logits = torch.stack([torch.stack([clip.mean(), clip.max()]) for clip in clips])
        if self.vector_dim is None:
            return logits, None
        return logits, torch.stack([torch.stack([c.sum(), c.min(), torch.tensor(len(c))]) for c in clips])


def ramp(n: int, start: int = 1) -> torch.Tensor:
    return torch.arange(start, start + n, dtype=torch.float32)


def by_hand(clip: torch.Tensor, a: int, window: int) -> torch.Tensor:
    """The reference: repeat, then tile whole copies and pad, or crop at the head."""
    repeated = clip.repeat(a)
    tiled = repeated[:window] if len(repeated) > window else repeated.repeat(window // len(repeated))
    return normalize(torch.nn.functional.pad(tiled, (0, window - len(tiled))), dim=0)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6), st.lists(st.integers(1, 5), min_size=1, max_size=4)
)
def test_short_clips_equal_repeating_and_tiling(lengths, repeats):
    model = Echo()
    clips = [ramp(n, start=10 * i + 1) for i, n in enumerate(lengths)]
    got, n_inputs = embed_clips(model, clips, repeats, batch_s=3)
    expected = torch.stack([torch.stack([by_hand(clip, a, 12) for a in repeats]) for clip in clips])
    torch.testing.assert_close(got, expected)
    distinct = sum(len({tuple(by_hand(clip, a, 12).tolist()) for a in repeats}) for clip in clips)
    assert sum(map(len, model.batches)) == n_inputs
    assert distinct <= n_inputs <= len(lengths) * len(repeats)


def test_identical_amplifications_are_encoded_once(alm_folder):
    _, n_inputs = embed_clips(Clap(str(alm_folder)), [torch.randn(3 * 48000)], [1, 2, 3, 4], batch_s=40)
    # a=2 fits one pair, a=4 exceeds the window, and a=1 and 3 both fill it with three copies.
    assert n_inputs == 3


def test_amplified_clap_equals_transformers_on_the_repeated_clip(alm_folder):
    extractor, reference = (
        ClapFeatureExtractor.from_pretrained(alm_folder),
        ClapModel.from_pretrained(alm_folder),
    )
    clip = 0.1 * torch.randn(3 * 48000, generator=torch.Generator().manual_seed(0))
    got, _ = embed_clips(Clap(str(alm_folder)), [clip], [1, 2, 3], batch_s=40)
    for row, a in enumerate([1, 2, 3]):
        features = extractor(clip.repeat(a).numpy(), sampling_rate=48000, return_tensors="pt")
        with torch.inference_mode():
            expected = reference.eval().get_audio_features(**features).pooler_output[0]
        torch.testing.assert_close(got[0, row], expected, rtol=0, atol=1e-5)


def test_long_clips_are_length_weighted_means_of_windows():
    clip = ramp(30)
    got, n_inputs = embed_clips(Echo(), [clip], [1, 2], batch_s=10)
    parts = [(clip[:12], 12), (clip[12:24], 12), (clip[24:], 6)]
    for row, a in enumerate([1, 2]):
        expected = normalize(sum(n / 30 * by_hand(part, a, 12) for part, n in parts), dim=0)
        torch.testing.assert_close(got[0, row], expected)
    assert n_inputs == 3  # the last window has two copies for both a


def test_crop_encodes_one_window():
    clip = ramp(30)
    head, n_inputs = embed_clips(Echo(), [clip], [1], long="crop", batch_s=10)
    torch.testing.assert_close(head[0, 0], normalize(clip[:12], dim=0))
    assert n_inputs == 1


def test_seeds_determine_the_crop():
    clip = ramp(30)
    crops = {
        seed: embed_clips(Echo(), [clip], [1], long="crop", seeds=[seed], batch_s=10)[0][0, 0]
        for seed in (0, 5, 18)
    }
    for seed, crop in crops.items():
        torch.testing.assert_close(crop, normalize(clip[seed : seed + 12], dim=0))
    mixed, _ = embed_clips(Echo(), [ramp(3), clip], [1], long="crop", seeds=[1, 18], batch_s=10)
    torch.testing.assert_close(mixed[1, 0], crops[18])


def test_seeded_crops_of_amplified_clips_are_periodic_shifts():
    clip = ramp(5)
    shifts = [normalize(clip[(torch.arange(12) + k) % 5], dim=0) for k in range(5)]
    seen = set()
    for seed in range(40):
        got, _ = embed_clips(Echo(), [clip], [3], seeds=[seed], batch_s=10)
        again, _ = embed_clips(Echo(), [clip], [3], seeds=[seed], batch_s=10)
        assert torch.equal(got, again)
        seen.add(int(torch.stack([(got[0, 0] - s).abs().max() for s in shifts]).argmin()))
    assert seen == {0, 1, 2, 3}  # 15 samples allow starts 0 to 3


def test_model_without_window_encodes_every_repeat():
    model = Echo(window=None, fill="none")
    got, n_inputs = embed_clips(model, [ramp(3), ramp(4)], [1, 3], batch_s=10)
    torch.testing.assert_close(got[0, 1, :9], normalize(ramp(3).repeat(3), dim=0))
    assert n_inputs == 4


def test_batch_size_includes_padding():
    model = Echo()
    embed_clips(model, [ramp(1 + i) for i in range(5)], [1], batch_s=2 * 12 / RATE)
    assert [len(batch) for batch in model.batches] == [2, 2, 1]  # each costs a window of 12


def test_no_clips():
    assert embed_clips(Echo(), [], [1, 2], batch_s=10)[0].shape == (0, 2, 12)
    logits, vectors = classify_clips(Echo(), [], batch_s=10)
    assert (logits.shape, vectors.shape) == ((0, 2), (0, 3))
    logits, vectors = classify_clips(Echo(vector_dim=None), [], batch_s=10)
    assert (logits.shape, vectors) == ((0, 2), None)


@pytest.mark.parametrize(
    ("long", "expected"),
    [
        ("windows", [12 / 30 * 6.5 + 12 / 30 * 18.5 + 6 / 30 * 27.5, 0.4 * 12 + 0.4 * 24 + 0.2 * 30]),
        ("crop", [6.5, 12]),
    ],
)
def test_logits_are_length_weighted_means_of_windows(long, expected):
    got, _ = classify_clips(Echo(), [ramp(2), ramp(30)], long=long, batch_s=10)
    torch.testing.assert_close(got, torch.tensor([[1.5, 2.0], expected]))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.sampled_from(["windows", "crop"]))
def test_logits_and_vectors_are_means_over_separate_windows(lengths, long):
    clips = [ramp(n, start=10 * i + 1) for i, n in enumerate(lengths)]
    logits, vectors = classify_clips(Echo(), clips, long=long, batch_s=3)
    without, none = classify_clips(Echo(vector_dim=None), clips, long=long, batch_s=3)
    assert none is None
    assert torch.equal(without, logits)
    for row, clip in enumerate(clips):
        parts = clip.split(12) if long == "windows" else [clip[:12]]
        shares = [len(part) / sum(map(len, parts)) for part in parts]
        alone = [Echo().classify([part]) for part in parts]
        for got, place in ((logits, 0), (vectors, 1)):
            expected = sum(share * outputs[place][0] for share, outputs in zip(shares, alone, strict=True))
            torch.testing.assert_close(got[row], expected)


def test_logits_are_in_clip_order():
    model = Echo(window=None)
    logits, vectors = classify_clips(model, [ramp(n) for n in (2, 9, 4, 1)], batch_s=1)
    assert logits[:, 1].tolist() == vectors[:, 2].tolist() == [2, 9, 4, 1]
    assert model.batches == [[9], [4, 2], [1]]
