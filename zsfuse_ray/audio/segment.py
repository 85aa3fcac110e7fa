"""Speech segments: voice activity detection, then cutting to a minimum and a maximum length.

Everything is placed on a grid that starts with the recording, so the same audio gives the same segments
whichever item it is processed in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.turns import Piece, Turn, cut_at_turns, shared

Vad = Literal["silero", "none"]
Channels = Literal["mix", "split", "first"]

RATE = 16_000  # Hz, required by Silero
FRAME = 512  # samples per frame, 32 ms
LANE_FRAMES = 625  # 20 s, a whole number of seconds
# 32 s: the LSTM has a long memory; with 8 s, one frame in 200 crossed the threshold.
WARMUP_FRAMES = 1000
GRID_S = LANE_FRAMES * FRAME / RATE  # items start on multiples of this

PAUSE_MS = 300  # shorter pauses do not end a segment
SHORTEST_SPEECH_MS = 250  # Silero's default; shorter bursts are more often clicks than words
PAD_MS = 30
CUT_SMOOTHING = 5  # frames; a single low frame inside a word is not a pause


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; seconds from the start of the recording (or of the manifest's slice of it)."""

    start_s: float
    end_s: float
    speech_prob: float
    channel: int | None = None  # counted from 0; None in a mix
    speaker: str | None = None  # None without turns, or where nobody has one
    overlap: float | None = None  # share of it in which others have a turn; None without turns


@dataclass(frozen=True)
class Segmentation:
    """Segmentation settings. ``vad='none'`` cuts fixed windows of ``max_segment_s``, for ready-cut clips.

    channels: what is segmented, the mix of a recording's channels, the first or each by itself.
    """

    vad: Vad = "silero"
    min_segment_s: float = 0.5
    max_segment_s: float = 10.0
    threshold: float = 0.5
    channels: Channels = "mix"

    @property
    def left_context_s(self) -> float:
        """Seconds before an item that its first frames' probabilities and first cuts depend on."""
        if self.vad == "none":
            return 0.0
        warmup_s = WARMUP_FRAMES * FRAME / RATE
        return GRID_S * math.ceil(max(warmup_s, 3 * self.max_segment_s) / GRID_S)

    @property
    def right_context_s(self) -> float:
        """Seconds after an item that its last segment may extend into."""
        return self.max_segment_s + (0.0 if self.vad == "none" else self.min_segment_s + 1.0)


def fixed_windows(duration_s: float, how: Segmentation, origin_s: float = 0.0) -> list[Segment]:
    """Return windows of ``max_segment_s`` on the recording's grid, for audio that starts at ``origin_s``.

    A remainder below ``min_segment_s`` is dropped unless it is the whole recording.
    """
    first = math.ceil(origin_s / how.max_segment_s - 1e-9) * how.max_segment_s - origin_s
    starts = [float(start) for start in np.arange(first, duration_s, how.max_segment_s)]
    windows = [(start, min(start + how.max_segment_s, duration_s)) for start in starts]
    whole = duration_s < how.min_segment_s and origin_s == 0
    return [Segment(s, e, 1.0) for s, e in windows if whole or e - s >= how.min_segment_s]


def windows_of_turns(windows: Sequence[Segment], turns: Sequence[Turn], shortest_s: float) -> list[Segment]:
    """Return windows cut where the speaker changes, see `cut_at_turns`."""
    return [
        Segment(piece.start_s, piece.end_s, window.speech_prob, **_whose(piece, turns))
        for window in windows
        for piece in cut_at_turns(window.start_s, window.end_s, turns, shortest_s)
    ]


def _whose(piece: Piece, turns: Sequence[Turn]) -> dict[str, Any]:
    return {
        "speaker": piece.speaker,
        "overlap": shared(piece.start_s, piece.end_s, piece.speaker, turns),
    }


def segments_from_probabilities(
    probabilities: NDArray[np.float32],
    duration_s: float,
    how: Segmentation,
    turns: Sequence[Turn] | None = None,
) -> list[Segment]:
    """Turn frame probabilities into segments between ``min_segment_s`` and ``max_segment_s``.

    Speech with pauses below 0.3 s is one region (Silero's hysteresis). Longer regions are cut at the lowest
    speech probability in the second half of the maximum length; shorter ones are extended into the silence
    around them, and dropped if there is no room. With turns, regions are cut where the speaker changes first.
    """
    # lazy import: imports torch and sets it to one thread for the whole process
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
    if turns is None:
        pieces = [Piece(*cut, None) for span in spans for cut in _cut(span, smooth, how)]
    else:
        pieces = [
            Piece(*cut, own.speaker)
            for span in spans
            for own in cut_at_turns(*span, turns, how.min_segment_s)
            for cut in _cut((own.start_s, own.end_s), smooth, how)
        ]
    return [
        Segment(
            piece.start_s,
            piece.end_s,
            _mean_probability(probabilities, piece.start_s, piece.end_s),
            **({} if turns is None else _whose(piece, turns)),
        )
        for piece in pieces
    ]


def _widen(spans: list[tuple[float, float]], duration_s: float, shortest: float) -> list[tuple[float, float]]:
    """Extend spans shorter than ``shortest`` evenly, up to the middle of the adjacent gaps."""
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
    """Split a region longer than ``max_segment_s`` at the lowest frame in the second half of each piece."""
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
