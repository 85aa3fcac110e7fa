"""Log-mel features on the model's device, equal to those of transformers' feature extractors.

The extractors of transformers run on the CPU, one clip at a time, which takes longer than the encoder on a
GPU. The modules here read all parameters from an extractor object (from the checkpoint's
preprocessor_config.json) and give the same values to 1e-4. Each clip's features depend on that clip alone,
not on the rest of the batch.

Spectra are computed in float64, as by NumPy: in float32 the quiet bins of a loud frame are off by 0.01 dB.
Only AST uses float32, like its reference.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.audio_utils import mel_filter_bank

# Kaldi's constants: transformers' two Kaldi front ends fix them in code, not in preprocessor_config.json.
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20
_FLOOR = torch.finfo(torch.float32).eps


def pad_to(clips: Sequence[Tensor], length: int, value: float = 0.0) -> Tensor:
    """Return the clips as one (B, length) tensor, padded at the end."""
    return torch.stack([pad(clip, (0, length - len(clip)), value=value) for clip in clips])


class _Mel(nn.Module):
    """Mel power spectrogram with centred Hann frames: (B, samples) → (B, frames, bins), float64."""

    window: Tensor
    filters: Tensor

    def __init__(self, n_fft: int, hop: int, filters: np.ndarray):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float64), persistent=False)
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float64), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveforms.double(),
            self.n_fft,
            self.hop,
            window=self.window,
            pad_mode="reflect",
            return_complex=True,
        )
        return spectrum.abs().square().transpose(1, 2) @ self.filters


class ClapMel(nn.Module):
    """Log-mel of ClapFeatureExtractor in dB: clips of at most `window` samples → (B, 1, frames, bins).

    Clips are already repeated; zeros fill the window. A fusion checkpoint uses the filters of its fusion
    path. It uses four mels only for audio longer than the window, which does not occur here, otherwise only
    the first.
    """

    def __init__(self, extractor: ClapFeatureExtractor):
        super().__init__()
        self.window = int(extractor.nb_max_samples)
        fusion = extractor.truncation == "fusion"
        filters = extractor.mel_filters if fusion else extractor.mel_filters_slaney
        self.mel = _Mel(extractor.fft_window_size, extractor.hop_length, filters)

    def forward(self, clips: Sequence[Tensor]) -> Tensor:
        power = self.mel(pad_to(clips, self.window))
        return 10 * power.clamp(min=1e-10).log10().float()[:, None]


class Waveforms(nn.Module):
    """Wav2Vec2FeatureExtractor: each clip normalised by itself, then padded to the longest."""

    window = None
    minimum = 1

    def __init__(self, extractor: Wav2Vec2FeatureExtractor):
        super().__init__()
        self.normalize = extractor.do_normalize
        self.padding_value = extractor.padding_value
        self.masked = extractor.return_attention_mask

    def forward(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        if self.normalize:
            clips = [(c - c.mean()) / torch.sqrt(c.var(unbiased=False) + 1e-7) for c in clips]
        inputs = {
            "input_values": pad_sequence(list(clips), batch_first=True, padding_value=self.padding_value)
        }
        if self.masked:
            inputs["attention_mask"] = _mask([len(clip) for clip in clips], clips[0].device)
        return inputs


class WhisperMel(nn.Module):
    """Log-mel of WhisperFeatureExtractor: clips of at most `window` samples → (B, bins, frames)."""

    minimum = 1

    def __init__(self, extractor: WhisperFeatureExtractor):
        super().__init__()
        self.window = int(extractor.n_samples)
        self.padding_value = extractor.padding_value
        self.mel = _Mel(extractor.n_fft, extractor.hop_length, extractor.mel_filters)

    def forward(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        power = self.mel(pad_to(clips, self.window, self.padding_value))[:, :-1]
        log = power.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8)
        return {"input_features": ((log + 4) / 4).transpose(1, 2).float()}


class WhisperClipMel(nn.Module):
    """Log-mel of WhisperFeatureExtractor at each clip's own length, without padding to the window.

    Clips of at most `window` samples → features (B, bins, frames of the longest) and the clips' frames (B,).
    """

    def __init__(self, extractor: WhisperFeatureExtractor):
        super().__init__()
        self.window = int(extractor.n_samples)
        self.mel = _Mel(extractor.n_fft, extractor.hop_length, extractor.mel_filters)

    def forward(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        logs = []
        for clip in clips:
            log = self.mel(clip[None])[0, :-1].clamp(min=1e-10).log10()
            logs.append(((torch.maximum(log, log.max() - 8) + 4) / 4).float())
        frames = torch.tensor([len(log) for log in logs], device=logs[0].device)
        return {"features": pad_sequence(logs, batch_first=True).transpose(1, 2), "frames": frames}


class KaldiFbank(nn.Module):
    """Kaldi's log-mel filter banks: (B, samples) → (B, frames, bins), natural log, in the window's dtype.

    Only whole frames. highest_hz: upper edge of the highest filter, by default half the rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, window: Tensor, hop: int, n_fft: int, bins: int, rate: int, highest_hz: float | None = None
    ):
        super().__init__()
        self.frame, self.hop, self.n_fft = len(window), hop, n_fft
        with warnings.catch_warnings():
            # AST's 128 bins are so narrow that some contain no frequency, as in training.
            warnings.filterwarnings("ignore", "At least one mel filter")
            filters = mel_filter_bank(
                num_frequency_bins=n_fft // 2 + 1,
                num_mel_filters=bins,
                min_frequency=_LOWEST_HZ,
                max_frequency=highest_hz or rate // 2,
                sampling_rate=rate,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.as_tensor(filters, dtype=window.dtype), persistent=False)

    def frames(self, samples: int) -> int:
        """Return the number of whole frames in so many samples."""
        return 1 + (samples - self.frame) // self.hop

    def samples(self, frames: int) -> int:
        """Return the number of samples that so many frames span."""
        return (frames - 1) * self.hop + self.frame

    def forward(self, waveforms: Tensor) -> Tensor:
        framed = waveforms.to(self.window.dtype).unfold(-1, self.frame, self.hop)
        framed = framed - framed.mean(dim=-1, keepdim=True)
        previous = torch.cat([framed[..., :1], framed[..., :-1]], dim=-1)
        framed = (framed - _PREEMPHASIS * previous) * self.window
        power = torch.fft.rfft(framed, n=self.n_fft).abs().square()
        return (power @ self.filters).clamp(min=_FLOOR).log()


class AstFbank(nn.Module):
    """ASTFeatureExtractor: clips of at most `window` samples → (B, max_length, bins), zero-padded frames."""

    def __init__(self, extractor: ASTFeatureExtractor):
        super().__init__()
        rate = extractor.sampling_rate
        frame = int(rate * 0.025)
        hann = torch.hann_window(frame, periodic=False)
        n_fft = 1 << (frame - 1).bit_length()
        self.fbank = KaldiFbank(hann, int(rate * 0.01), n_fft, extractor.num_mel_bins, rate)
        self.max_length = extractor.max_length
        self.window = self.fbank.samples(self.max_length)
        self.minimum = self.fbank.samples(1)
        self.mean, self.std = (extractor.mean, extractor.std * 2) if extractor.do_normalize else (0.0, 1.0)

    def forward(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        features = self.fbank(pad_to(clips, self.window))
        own = _mask([self.fbank.frames(len(clip)) for clip in clips], features.device, self.max_length)
        features = features * own[..., None]  # frames that overlap the padding are zeroed
        return {"input_values": ((features - self.mean) / self.std).float()}


class SeamlessFbank(nn.Module):
    """SeamlessM4TFeatureExtractor (Wav2Vec2-BERT): (B, frames // stride, bins · stride) and its mask.

    Each bin is normalised over the clip's own frames. The reference pads a batch to its longest clip before
    stacking frames, so a short clip's mask can depend on the others; here its frames and mask are the same as
    without a batch.
    """

    window = None

    def __init__(self, extractor: SeamlessM4TFeatureExtractor):
        super().__init__()
        window = torch.as_tensor(extractor.window)
        n_fft = 2 * (extractor.mel_filters.shape[0] - 1)
        self.fbank = KaldiFbank(window, 160, n_fft, extractor.num_mel_bins, extractor.sampling_rate)
        self.stride = extractor.stride
        self.padding_value = extractor.padding_value
        self.minimum = self.fbank.samples(max(2, self.stride))  # the variance needs two frames

    def forward(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        frames = [self.fbank.frames(len(clip)) for clip in clips]
        features = self.fbank(pad_sequence(list(clips), batch_first=True) * 2**15)
        stacked = [self._stack(clip[:n]) for clip, n in zip(features, frames, strict=True)]
        mask = [
            torch.arange(len(rows)) * self.stride + min(1, self.stride - 1) < n
            for rows, n in zip(stacked, frames, strict=True)
        ]
        return {
            "input_features": pad_sequence(stacked, batch_first=True, padding_value=self.padding_value),
            "attention_mask": pad_sequence(mask, batch_first=True).long().to(features.device),
        }

    def _stack(self, clip: Tensor) -> Tensor:
        """Normalise (frames, bins), pad to an even number of frames, stack every `stride` of them."""
        clip = (clip - clip.mean(dim=0)) / torch.sqrt(clip.var(dim=0) + 1e-7)
        clip = pad(clip, (0, 0, 0, len(clip) % 2), value=self.padding_value)
        return clip[: len(clip) // self.stride * self.stride].reshape(-1, clip.shape[1] * self.stride).float()


def _mask(lengths: Sequence[int], device: torch.device, width: int | None = None) -> Tensor:
    """Return (B, width) ones up to each length; the width defaults to the longest."""
    counts = torch.tensor(lengths, device=device)
    return (torch.arange(width or max(lengths), device=device) < counts[:, None]).long()


FrontEnd = Waveforms | WhisperMel | AstFbank | SeamlessFbank
# Front ends of classifiers by the name of their feature extractor.
FRONT_ENDS: dict[str, type[Waveforms] | type[WhisperMel] | type[AstFbank] | type[SeamlessFbank]] = {
    "Wav2Vec2FeatureExtractor": Waveforms,
    "WhisperFeatureExtractor": WhisperMel,
    "ASTFeatureExtractor": AstFbank,
    "SeamlessM4TFeatureExtractor": SeamlessFbank,
}
