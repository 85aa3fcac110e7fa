"""Transcripts beside recordings, and what of them is said in each segment.

Formats: the JSON of Whisper (https://github.com/openai/whisper) and WhisperX, with the times of words if it
has them, SubRip (.srt) and WebVTT (https://www.w3.org/TR/webvtt1/).
"""

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zsfuse_ray.audio.files import suffix
from zsfuse_ray.audio.sidecars import read_sidecar
from zsfuse_ray.errors import InputError, redact_uri

OPTION = "--transcripts"
SUFFIXES = (".json", ".vtt", ".srt")  # the first that is there is read
NEAR_S = 0.5  # a word this close to a segment that none contains is said in it
_TIMES = re.compile(r"(?:(\d+):)?(\d+):(\d+)[.,](\d+)\s*-->\s*(?:(\d+):)?(\d+):(\d+)[.,](\d+)")
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True)
class Word:
    """A word in seconds. text: with the white space after it, so that joined words are the sentence."""

    start_s: float
    end_s: float
    text: str


def read_words(uri: str) -> list[Word]:
    """Return the words of a transcript; InputError if it cannot be read."""
    content = read_sidecar(uri, OPTION)
    try:
        cues = _json_cues(content) if suffix(uri) == ".json" else _captions(content)
        return [word for cue in cues for word in cue if math.isfinite(word.start_s + word.end_s)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(
            f"{OPTION} {redact_uri(uri)}: not the JSON of Whisper or WhisperX, SRT or VTT"
        ) from None


def texts_of(words: Sequence[Word], starts: Sequence[float], ends: Sequence[float]) -> list[str]:
    """Return the transcript of each of n segments, by start: each word is in the one with its middle.

    A word between segments is said in the nearest one, if that is within NEAR_S.
    """
    found: list[list[str]] = [[] for _ in starts]
    if not found:
        return []
    first = np.asarray(starts)
    for word in words:
        middle = (word.start_s + word.end_s) / 2
        after = int(np.searchsorted(first, middle, "right"))
        near = [n for n in (after - 1, after) if 0 <= n < len(found)]
        away = {n: max(starts[n] - middle, middle - ends[n], 0.0) for n in near}
        nearest = min(near, key=lambda n: away[n])
        if away[nearest] <= NEAR_S:
            found[nearest].append(word.text)
    return [" ".join("".join(texts).split()) for texts in found]


def _json_cues(content: str) -> Iterator[list[Word]]:
    for cue in json.loads(content)["segments"]:
        start, end, text = float(cue["start"]), float(cue["end"]), str(cue["text"]).strip() + " "
        timed = [one for one in cue.get("words") or () if _is_timed(one)]
        yield list(_timed_words(timed, text)) if timed else _spread(start, end, text)


def _is_timed(word: Mapping[str, Any]) -> bool:
    """WhisperX gives no times for words such as numerals: they go with the word before."""
    return isinstance(word.get("start"), int | float) and isinstance(word.get("end"), int | float)


def _timed_words(words: Sequence[Mapping[str, Any]], text: str) -> Iterator[Word]:
    """Words with their times, and with the text of the cue from each to the next."""
    places, reached = [], 0
    for word in words:
        at = text.find(str(word["word"]).strip(), reached)
        places.append(reached if at < 0 else at)
        reached = places[-1] + (0 if at < 0 else len(str(word["word"]).strip()))
    places[0] = 0
    for word, first, last in zip(words, places, [*places[1:], len(text)], strict=True):
        yield Word(float(word["start"]), float(word["end"]), text[first:last])


def _spread(start_s: float, end_s: float, text: str) -> list[Word]:
    """The words of a cue without times of words, at an even speed."""
    speed = (end_s - start_s) / max(1, len(text))
    return [
        Word(start_s + speed * match.start(), start_s + speed * match.end(), match[0])
        for match in re.finditer(r"\S+\s*", text)
    ]


def _captions(content: str) -> Iterator[list[Word]]:
    """The cues of SubRip or WebVTT. ValueError if there is none in a file with content."""
    blocks = re.split(r"\n\s*\n", content.replace("\r\n", "\n").replace("\r", "\n"))
    is_captions = content.lstrip().startswith("WEBVTT") or not content.strip()
    for block in blocks:
        lines = block.strip("\n").split("\n")
        place = next((n for n, line in enumerate(lines[:2]) if _TIMES.match(line.strip())), None)
        if place is None:
            continue
        match = _TIMES.match(lines[place].strip())
        assert match is not None
        is_captions = True
        text = html.unescape(_TAG.sub("", " ".join(lines[place + 1 :]))).strip() + " "
        yield _spread(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text)
    if not is_captions:
        raise ValueError("no cue")


def _seconds(clock: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = clock
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + float(f"0.{fraction}")
