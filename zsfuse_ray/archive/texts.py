"""Transcripts of the segments of a part, from transcripts beside the recordings."""

import hashlib
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from zsfuse_ray.archive.normalise import CHANNEL
from zsfuse_ray.audio.sidecars import Sidecar, list_sidecars, match_names
from zsfuse_ray.audio.transcripts import OPTION, SUFFIXES, read_words, texts_of
from zsfuse_ray.errors import InputError

log = logging.getLogger(__name__)

TEXT = "text"  # the column; null without a transcript

Transcripts = Mapping[str, Sidecar]  # by name, see `list_sidecars`


def find_transcripts(place: str | None, uris: Sequence[str] = ()) -> Transcripts | None:
    """Return the transcripts in a folder; InputError if there is none, or none of these recordings."""
    if place is None:
        return None
    found = list_sidecars(place, SUFFIXES, OPTION)
    if uris:
        own = match_names(uris, found, OPTION)
        if not own:
            names = ", ".join(sorted(found)[:3])
            raise InputError(f"{OPTION} {place}: no recording has one of its names ({names} …)")
        if others := len(set(uris) - own.keys()):
            log.warning(f"warning: {OPTION}: {others} recordings have no transcript; their text is empty")
    return found


def version_of(transcripts: Transcripts | None) -> str:
    """Return a hash that changes with the names or the content of the transcripts; empty without any."""
    if transcripts is None:
        return ""
    content = repr(sorted((name, one.version) for name, one in transcripts.items()))
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


def with_texts(
    segments: pa.Table, recordings: pa.Table, transcripts: Transcripts
) -> tuple[pa.Table, dict[int, str]]:
    """Return segments with their column TEXT filled, and why the transcripts of recordings, by id, are not.

    segments: of whole recordings, by recording and time; recordings: theirs, with their URIs. In each channel
    the words are those said while it has speech: a transcript does not name channels.
    """
    names = match_names(recordings["uri"].to_pylist(), transcripts, OPTION)
    uris = dict(zip(recordings["recording_id"].to_pylist(), recordings["uri"].to_pylist(), strict=True))
    numbers, firsts, counts = np.unique(
        segments["recording_id"].to_numpy(), return_index=True, return_counts=True
    )
    has_channels = CHANNEL in segments.column_names[: segments.column_names.index(TEXT)]  # no manifest's
    channels = segments[CHANNEL].to_numpy() if has_channels else np.zeros(len(segments), np.int32)
    start, end = (segments[name].to_numpy() for name in ("start_s", "end_s"))
    texts: list[str | None] = [None] * len(segments)
    problems: dict[int, str] = {}
    for number, first, count in zip(numbers.tolist(), firsts, counts, strict=True):
        if (name := names.get(uris[number])) is None:
            continue
        try:
            words = read_words(transcripts[name].uri)
        except InputError as error:
            problems[number] = str(error)
            continue
        own = channels[first : first + count]
        for channel in np.unique(own):
            rows = first + np.flatnonzero(own == channel)
            for row, text in zip(
                rows, texts_of(words, start[rows].tolist(), end[rows].tolist()), strict=True
            ):
                texts[row] = text
    place = segments.column_names.index(TEXT)
    return segments.set_column(place, TEXT, pa.array(texts, pa.string())), problems
