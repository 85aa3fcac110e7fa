"""Speech segments: voice activity, then cuts between a shortest and a longest length.

Everything is placed on a grid that starts with the recording, so that the same stretch of audio gives the
same segments in whichever item it is looked at.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vad = Literal["silero", "none"]

RATE = 16_000  # what Silero takes, in Hz
FRAME = 512  # samples a frame, 32 ms
LANE_FRAMES = 625  # 20 s, a whole number of seconds
# 32 s: the LSTM remembers for long; with 8 s one frame in 200 came out on the other side of the threshold.
WARMUP_FRAMES = 1000
GRID_S = LANE_FRAMES * FRAME / RATE  # items start on multiples of this

PAUSE_MS = 300  # a shorter pause stays inside a segment
SHORTEST_SPEECH_MS = 250  # Silero's own default; shorter bursts are clicks more often than words
PAD_MS = 30
CUT_SMOOTHING = 5  # frames; one low frame inside a word is not a pause


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; seconds from the start of the recording (or of the manifest's slice of it)."""

    start_s: float
    end_s: float
    speech_prob: float


@dataclass(frozen=True)
class Segmentation:
    """How speech is found. ``vad='none'`` cuts windows of ``max_segment_s``: for ready-cut clips."""

    vad: Vad = "silero"
    min_segment_s: float = 0.5
    max_segment_s: float = 10.0
    threshold: float = 0.5

    @property
    def left_context_s(self) -> float:
        """Seconds before an item that its first frames' probabilities and first cuts rest on."""
        if self.vad == "none":
            return 0.0
        warmup_s = WARMUP_FRAMES * FRAME / RATE
        return GRID_S * math.ceil(max(warmup_s, 3 * self.max_segment_s) / GRID_S)

    @property
    def right_context_s(self) -> float:
        """Seconds after an item that the segment starting last in it may need."""
        return self.max_segment_s + (0.0 if self.vad == "none" else self.min_segment_s + 1.0)


def fixed_windows(duration_s: float, how: Segmentation, origin_s: float = 0.0) -> list[Segment]:
    """Windows of ``max_segment_s`` on the recording's own grid, in audio that starts at ``origin_s`` of it.

    A remainder below ``min_segment_s`` is left out unless it is all there is of the recording.
    """
    first = math.ceil(origin_s / how.max_segment_s - 1e-9) * how.max_segment_s - origin_s
    starts = [float(start) for start in np.arange(first, duration_s, how.max_segment_s)]
    windows = [(start, min(start + how.max_segment_s, duration_s)) for start in starts]
    whole = duration_s < how.min_segment_s and origin_s == 0
    return [Segment(s, e, 1.0) for s, e in windows if whole or e - s >= how.min_segment_s]


def segments_from_probabilities(
    probabilities: NDArray[np.float32], duration_s: float, how: Segmentation
) -> list[Segment]:
    """Turn frame probabilities into segments between ``min_segment_s`` and ``max_segment_s``.

    Speech with pauses below 0.3 s is one region (Silero's own hysteresis). Longer regions are cut where
    speech is least probable, in the second half of what a segment may last; shorter ones are widened into the
    silence around them, and left out where there is no room.
    """
    # imported here for its price: torch, which it sets to one thread for the whole process
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    regions = get_speech_timestamps_from_probs(
        probabilities.tolist(),
        threshold=how.threshold,
        min_speech_duration_ms=SHORTEST_SPEECH_MS,
        min_silence_duration_ms=PAUSE_MS,
        speech_pad_ms=PAD_MS,
        audio_length_samples=int(duration_s * RATE),
    )
    spans = _widen([(r["start"] / RATE, r["end"] / RATE) for r in regions], duration_s, how.min_segment_s)
    kernel = np.ones(CUT_SMOOTHING) / CUT_SMOOTHING
    smooth = np.convolve(np.pad(probabilities, CUT_SMOOTHING // 2, mode="edge"), kernel, mode="valid")
    pieces = [piece for span in spans for piece in _cut(span, smooth, how)]
    return [Segment(s, e, _mean_probability(probabilities, s, e)) for s, e in pieces]


def _widen(spans: list[tuple[float, float]], duration_s: float, shortest: float) -> list[tuple[float, float]]:
    """Stretch spans shorter than ``shortest`` evenly, up to the middle of the gaps beside them."""
    widened = []
    for i, (start, end) in enumerate(spans):
        missing = shortest - (end - start)
        if missing > 0:
            low = (spans[i - 1][1] + start) / 2 if i else 0.0
            high = (end + spans[i + 1][0]) / 2 if i + 1 < len(spans) else duration_s
            start = max(low, min(start - missing / 2, high - shortest))
            end = min(high, start + shortest)
        if end - start > shortest - 1e-6:
            widened.append((start, end))
    return widened


def _cut(span: tuple[float, float], smooth: NDArray, how: Segmentation) -> list[tuple[float, float]]:
    """Split a region longer than ``max_segment_s`` at the weakest frame of each piece's second half."""
    start, end = span
    pieces = []
    while end - start > how.max_segment_s:
        earliest = max(start + how.max_segment_s / 2, start + how.min_segment_s)
        latest = min(start + how.max_segment_s, end - how.min_segment_s)
        first, last = math.ceil(earliest * RATE / FRAME), math.floor(latest * RATE / FRAME)
        frame = first + int(np.argmin(smooth[first : last + 1])) if last >= first else last
        cut = frame * FRAME / RATE
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, end)]


def _mean_probability(probabilities: NDArray[np.float32], start_s: float, end_s: float) -> float:
    first = int(start_s * RATE / FRAME)
    last = max(first + 1, math.ceil(end_s * RATE / FRAME))
    return float(np.mean(probabilities[first:last]))
