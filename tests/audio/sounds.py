"""Audio files for the tests, written with FFmpeg's encoders: a chirp, so that no two positions are alike."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def chirp(seconds: float, rate: int = 48_000, channels: int = 1) -> NDArray[np.int16]:
    """Return mono int16 samples, shape (n,), or (channels, n) with a different level per channel."""
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 * t + 20 * t**2)) * (0.6 + 0.3 * np.sin(2 * np.pi * 0.9 * t))
    noise = np.random.default_rng(0).normal(0, 0.02, len(t))
    mono = np.clip((tone + noise) * 12_000, -32768, 32767).astype(np.int16)
    return mono if channels == 1 else np.stack([mono // (c + 1) for c in range(channels)])


def write(
    path: Path,
    codec: str,
    samples: NDArray[np.int16],
    rate: int = 48_000,
    layout: str = "mono",
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    bit_rate: int = 64_000,
) -> Path:
    """Encode mono (n,) or planar (channels, n) int16 samples into the container of the suffix."""
    planes = np.atleast_2d(samples)
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options or {})
        stream.bit_rate = bit_rate
        resampler = av.AudioResampler(
            format=stream.format.name,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        for at in range(0, planes.shape[1], rate):
            block = np.ascontiguousarray(planes[:, at : at + rate].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path
