"""The audio of segments as MP3, to be embedded in a page."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.decode import DecodeError, decode
from zsfuse_ray.audio.sources import SourceError

RATE, BIT_RATE = 24_000, 32_000  # of a clip: speech stays clear at 4 kB a second
MOST_BYTES = 6_000_000  # of all clips, so that a page stays below 10 MB


def embedded_clips(segments: Sequence[dict[str, Any]], most: int) -> tuple[dict[int, str], list[str]]:
    """Return the audio of the first segments as data URIs, by their place, and why others have none.

    segments: rows of segments/; most: number of clips.
    """
    clips: dict[int, str] = {}
    problems: list[str] = []
    size = 0
    for place, one in enumerate(segments[:most]):
        try:
            pcm = decode(one["recording_uri"], one["start_s"], one["end_s"])
        except (DecodeError, SourceError, OSError) as error:
            problems.append(" ".join(str(error).split()))
            continue
        content = base64.b64encode(mp3(pcm.samples, pcm.sample_rate)).decode()
        size += len(content)
        if size > MOST_BYTES:
            break
        clips[place] = f"data:audio/mpeg;base64,{content}"
    return clips, problems


def mp3(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """Encode mono int16 samples, (n,), as MP3."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream: Any = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate
        for part in (frame, None):
            for resampled in resampler.resample(part):
                container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return file.getvalue()
