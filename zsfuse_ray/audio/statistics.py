"""Features of a classical emotion recogniser: statistics of the log-mel spectrum over time.

The classical baseline: functionals of low-level descriptors, as in the challenges since Schuller et al. 2009,
here of log-mel bins alone.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from zsfuse_ray.audio.features import KaldiFbank
from zsfuse_ray.audio.resample import resample

RATE = 16_000
BINS = 64
_FRAME, _HOP, _N_FFT = 400, 160, 512  # 25 ms every 10 ms
_LOUD_PERCENTILE = 90  # of the frames' levels: the level of the clip
_BLOCK = 10  # frames, 0.1 s: about one phone
SIZE = 8 * BINS


@lru_cache(maxsize=1)
def _fbank() -> KaldiFbank:
    return KaldiFbank(torch.hann_window(_FRAME, periodic=False), _HOP, _N_FFT, BINS, RATE)


def log_mel_statistics(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """Return (SIZE,) statistics of mono int16 audio at `rate` Hz.

    Per log-mel bin: mean, standard deviation, three percentiles, two measures of change between frames and
    one between 0.1 s blocks. The level of the loud frames is subtracted first, so the recording gain has no
    effect. A clip shorter than a frame is zero-padded.
    """
    waveform = resample(torch.from_numpy(np.array(samples)), rate, RATE)
    waveform = torch.nn.functional.pad(waveform, (0, max(0, _FRAME - len(waveform))))
    mel = _fbank()(waveform[None])[0].numpy()
    mel = mel - np.percentile(mel.mean(axis=1), _LOUD_PERCENTILE)
    steps, blocks = _changes(mel), _changes(_means(mel))
    return np.concatenate(
        [
            mel.mean(axis=0),
            mel.std(axis=0),
            *np.percentile(mel, (10, 50, 90), axis=0),
            np.abs(steps).mean(axis=0),
            steps.std(axis=0),
            blocks.std(axis=0),
        ]
    ).astype(np.float32)


def _means(mel: NDArray) -> NDArray:
    """Return the means over blocks of frames; the first frame for a clip shorter than two blocks."""
    n = len(mel) // _BLOCK
    return mel[: n * _BLOCK].reshape(n, _BLOCK, -1).mean(axis=1) if n >= 2 else mel[:1]


def _changes(rows: NDArray) -> NDArray:
    """Return the differences of neighbouring rows; zeros for a single row."""
    return np.diff(rows, axis=0) if len(rows) > 1 else np.zeros_like(rows)
