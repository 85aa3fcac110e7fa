"""Batched Silero voice activity detection over a whole item, with the same frames as the package's own loop.

That loop feeds a recurrent network 32 ms at a time. The layers before its LSTM process single frames, so here
all frames pass through them in batches; the LSTM then runs over parallel lanes, each warmed up on the audio
before it. Lanes are on a grid fixed to the recording, so a frame's probability does not depend on the item.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsfuse_ray.audio.levels import SILENT_RMS, is_silent
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.segment import (
    FRAME,
    LANE_FRAMES,
    RATE,
    WARMUP_FRAMES,
    Segment,
    Segmentation,
    fixed_windows,
    segments_from_probabilities,
    windows_of_turns,
)
from zsfuse_ray.audio.turns import Turn

CONTEXT = 64  # samples of the previous frame, prepended to each frame
QUIET_DB, LOUD_DB = -35.0, -25.0
LARGE_OFFSET = 0.01  # of full scale
SECOND_FRAMES = RATE // FRAME
BLOCK_FRAMES = 4096  # frames per call of the convolutions, to limit memory


class SileroVad(nn.Module):
    """The 16 kHz network of the silero-vad package, with its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, kernel_size=256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, kernel_size=3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, kernel_size=3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def features(self, frames: Tensor) -> Tensor:
        """Return features of frames with their context, (n, 64 + 512) → (n, 128)."""
        x = nn.functional.pad(frames, (0, 64), "reflect").unsqueeze(1)
        real, imaginary = self.stft_conv(x).chunk(2, dim=1)
        x = (real**2 + imaginary**2).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = conv(x).relu()
        return x.squeeze(-1)

    def forward(self, features: Tensor) -> Tensor:
        """Return speech probabilities (steps, lanes) of sequences of frame features (steps, lanes, 128)."""
        hidden, _ = self.lstm(features)
        return torch.sigmoid(hidden.relu() @ self.final_conv.weight[0, :, 0] + self.final_conv.bias)


# Names in the package's TorchScript model → names here; its 8 kHz network is unused. The safetensors file
# beside it has other, older weights.
STOCK_NAMES = {
    "_model.stft.forward_basis_buffer": "stft_conv.weight",
    "_model.encoder.0.reparam_conv": "conv1",
    "_model.encoder.1.reparam_conv": "conv2",
    "_model.encoder.2.reparam_conv": "conv3",
    "_model.encoder.3.reparam_conv": "conv4",
    "_model.decoder.rnn.weight_ih": "lstm.weight_ih_l0",
    "_model.decoder.rnn.weight_hh": "lstm.weight_hh_l0",
    "_model.decoder.rnn.bias_ih": "lstm.bias_ih_l0",
    "_model.decoder.rnn.bias_hh": "lstm.bias_hh_l0",
    "_model.decoder.decoder.2": "final_conv",
}


@lru_cache(maxsize=1)
def _silero() -> SileroVad:
    # lazy import: sets torch to one thread for the whole process
    from silero_vad import load_silero_vad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the package uses torch.jit.load
        stock = cast(nn.Module, load_silero_vad()).state_dict()
    weights = {}
    for theirs, ours in STOCK_NAMES.items():
        weights |= {n.replace(theirs, ours): tensor for n, tensor in stock.items() if n.startswith(theirs)}
    model = SileroVad()
    model.load_state_dict(weights)
    return model.eval()


def find_segments(
    pcm: NDArray[np.int16],
    sample_rate: int,
    how: Segmentation,
    origin_s: float = 0.0,
    turns: Sequence[Turn] | None = None,
) -> list[Segment]:
    """Return all segments of mono audio, in seconds from its first sample (``origin_s`` on the 20 s grid).

    Quiet audio is amplified for the detection; a silent segment is left out. turns: of its speakers, from the
    first sample too.
    """
    if not len(pcm):  # the recording ends before the item starts
        return []
    duration_s = len(pcm) / sample_rate
    if how.vad == "none":
        segments = fixed_windows(duration_s, how, origin_s)
        if turns is not None:
            segments = windows_of_turns(segments, turns, how.min_segment_s)
    else:
        waveform = audible(resample(torch.from_numpy(pcm), sample_rate, RATE))
        segments = segments_from_probabilities(speech_probabilities(waveform), duration_s, how, turns)
    return [s for s in segments if not is_silent(pcm[_samples(s, sample_rate)], sample_rate)]


def _samples(segment: Segment, sample_rate: int) -> slice:
    return slice(round(segment.start_s * sample_rate), round(segment.end_s * sample_rate))


def audible(waveform: Tensor) -> Tensor:
    """Return a 16 kHz waveform, amplified to LOUD_DB if its loudest second is below QUIET_DB (both dBFS).

    Silero misses speech below about -45 dBFS. Louder audio, and what is silent in 16 bits, is unchanged but
    for a large offset.
    """
    offset = waveform.mean()
    if abs(offset) > LARGE_OFFSET:
        waveform = waveform - offset
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return waveform
    levels = frames.std(dim=1, correction=0).sort().values
    loudest = float(levels[-min(SECOND_FRAMES, math.ceil(len(levels) / 4)) :].square().mean().sqrt())
    if loudest * 32768 < SILENT_RMS or loudest >= 10 ** (QUIET_DB / 20):
        return waveform
    return (waveform - waveform.mean()) * (10 ** (LOUD_DB / 20) / loudest)


@torch.inference_mode()
def speech_probabilities(waveform: Tensor) -> NDArray[np.float32]:
    """Return the speech probability of each 32 ms frame of a 16 kHz waveform, (samples,) → (frames,).

    The waveform must start on the 20 s grid of its recording. Its first 32 s have a shorter warm-up.
    """
    frames = math.ceil(len(waveform) / FRAME)
    if frames == 0:
        return np.zeros(0, np.float32)
    padded = nn.functional.pad(waveform, (CONTEXT, frames * FRAME - len(waveform)))
    windows = padded.unfold(0, CONTEXT + FRAME, FRAME)
    model = _silero()
    features = torch.cat([model.features(block) for block in windows.split(BLOCK_FRAMES)])

    # Lanes with a full warm-up start from a zero state; the first ones run as a single sequence.
    head = model(features[: min(frames, WARMUP_FRAMES + LANE_FRAMES)].unsqueeze(1))[:, 0]
    rest = features[LANE_FRAMES:]
    steps = WARMUP_FRAMES + LANE_FRAMES
    lanes = math.ceil(max(0, len(rest) - WARMUP_FRAMES) / LANE_FRAMES)
    if lanes == 0:
        return head.numpy()
    rest = nn.functional.pad(rest, (0, 0, 0, WARMUP_FRAMES + lanes * LANE_FRAMES - len(rest)))
    batch = rest.unfold(0, steps, LANE_FRAMES).permute(2, 0, 1)  # (steps, lanes, 128)
    tail = model(batch)[WARMUP_FRAMES:].T.reshape(-1)
    return torch.cat([head, tail])[:frames].numpy()
