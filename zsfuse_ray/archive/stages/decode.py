"""Decode items and detect speech in them: CPU tasks, one bundle at a time."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from zsfuse_ray.archive.schemas import DECODED
from zsfuse_ray.archive.stages.attempts import MOST_TRIES, Attempt, crashed, failure, uncounted
from zsfuse_ray.audio.decode import DecodeError, Pcm
from zsfuse_ray.audio.isolated import ChildError, decode_channels
from zsfuse_ray.audio.outages import Outage, unless_outage
from zsfuse_ray.audio.segment import Segment, Segmentation
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.audio.trim import trimmed
from zsfuse_ray.audio.turns import Turn
from zsfuse_ray.audio.vad import find_segments
from zsfuse_ray.errors import disk_problem

TWICE = "its channels have the same sound in places: it is labelled once, in the first of them"
OVERRUN_ITEMS = 2  # how far a recording may exceed the duration in its header, in items

_Cut = tuple[Segment, NDArray[np.int16]]  # a segment and its samples


def decode_bundles(
    batch: pa.Table,
    how: Segmentation,
    item_s: float,
    attempt: Attempt = uncounted,
    root: str | None = None,
) -> pa.Table:
    """Items of BUNDLE rows → DECODED: their segments and the segments' audio.

    root: of their archive, see `outages.archive_root`. Raises Outage if it does not answer.
    """
    torch.set_num_threads(1)  # tasks run in parallel, one per core
    rows = []
    for bundle in batch.to_pylist():
        done, spans, audio = [], [], []
        for item in bundle["items"]:
            with attempt(item["item_id"]) as tries:
                outcome, rate, segments = try_item(item, how, item_s, tries, root)
            done.append(outcome)
            for segment, samples in segments:
                place = {"item_id": item["item_id"], "start_s": segment.start_s, "end_s": segment.end_s}
                size = {"samples": len(samples), "sample_rate": rate}
                who = {name: getattr(segment, name) for name in ("channel", "speaker", "overlap")}
                spans.append(place | {"speech_prob": segment.speech_prob} | size | who)
                audio.append(samples)
        pcm = np.concatenate(audio).tobytes() if audio else b""
        place = {"bundle_id": bundle["bundle_id"], "part": bundle["part"]}
        rows.append(place | {"items": done, "segments": spans, "pcm": pcm})
    return pa.Table.from_pylist(rows, schema=DECODED)


def try_item(
    item: dict[str, Any], how: Segmentation, item_s: float, tries: int = 1, root: str | None = None
) -> tuple[dict[str, Any], int, list[tuple[Segment, NDArray[np.int16]]]]:
    """Try to decode an item: its OUTCOME, the sample rate, and its segments with their samples."""
    outcome = {"item_id": item["item_id"], "recording_id": item["recording_id"], "audio_s": 0.0}
    outcome["planned_s"] = item["end_s"] - item["start_s"]
    if tries > MOST_TRIES:
        return outcome | crashed("decode"), 0, []
    try:
        outcome["audio_s"], rate, segments, cut_short, note = unless_outage(
            partial(decode_item, item, how, item_s), item["uri"], root, is_planned=True
        )
    except Outage:
        raise
    except (DecodeError, SourceError) as error:
        return outcome | failure("decode", error.reason, str(error), item["uri"]), 0, []
    except (ImportError, ChildError):  # a broken installation, not a broken file
        raise
    except Exception as error:  # a broken file can cause any error in a decoder and must not stop the run
        if disk_problem(error) is not None:  # of this machine, such as a full temporary folder
            raise
        message = f"{type(error).__name__}: {error}"
        return outcome | failure("decode", "decoder_error", message, item["uri"]), 0, []
    if cut_short:
        return outcome | failure("decode", "truncated", cut_short, item["uri"]), rate, segments
    return outcome | {"message": note}, rate, segments


def decode_item(
    item: dict[str, Any], how: Segmentation, item_s: float
) -> tuple[float, int, list[tuple[Segment, NDArray[np.int16]]], str | None, str | None]:
    """Decode one item with the context that segmentation needs.

    Returns the seconds of audio in the item itself, the sample rate in Hz, the segments that start in it
    (on the clock of the file) with their samples, a message if the audio ends early, and a note on what was
    done to the audio. Raises DecodeError, SourceError.
    """
    offset, limit = item["slice_start_s"], item["slice_end_s"]
    begin = max(0.0, item["start_s"] - how.left_context_s)
    open_ended = item["last"] and limit is None
    end = None if open_ended else offset + item["end_s"] + how.right_context_s
    if end is not None and limit is not None:
        end = min(end, limit)
    longest = item["end_s"] - begin + OVERRUN_ITEMS * item_s + how.right_context_s
    of_channels = decode_channels(item["uri"], offset + begin, end, channels=how.channels, max_s=longest)
    pcm = of_channels[0]  # all are of the same length
    decoded_to = begin + len(pcm.samples) / pcm.sample_rate
    item_end = decoded_to if open_ended else min(item["end_s"], decoded_to)
    cut_short = pcm.truncated
    if decoded_to < item["end_s"] and not item["exact"]:
        cut_short = None  # the end was estimated from the bit rate
    segments, is_twice = _of_channels(of_channels, item, how, begin)
    note = "; ".join([*([pcm.note] if pcm.note else []), *([TWICE] if is_twice else [])])
    return max(0.0, item_end - item["start_s"]), pcm.sample_rate, segments, cut_short, note or None


def _of_channels(
    pcms: list[Pcm], item: dict[str, Any], how: Segmentation, begin: float
) -> tuple[list[_Cut], bool]:
    """The segments of each channel in turn, and whether some were left out.

    One with the same place and samples as in an earlier channel is: mono is often stored as stereo.
    """
    by_channel: list[list[_Cut]] = []
    for n, pcm in enumerate(pcms):
        same = next((k for k in range(n) if np.array_equal(pcms[k].samples, pcm.samples)), None)
        by_channel.append(_segments(pcm, item, how, begin) if same is None else by_channel[same])
    if how.channels == "mix":
        return by_channel[0], False
    found: list[_Cut] = []
    there: dict[tuple[float, float], list[NDArray[np.int16]]] = {}
    for channel, own in enumerate(by_channel):
        for segment, samples in own:
            others = there.setdefault((segment.start_s, segment.end_s), [])
            if not any(np.array_equal(samples, other) for other in others):
                others.append(samples)
                found.append((replace(segment, channel=channel), samples))
    return found, len(found) < sum(map(len, by_channel))


def _segments(pcm: Pcm, item: dict[str, Any], how: Segmentation, begin: float) -> list[_Cut]:
    """The segments that start in the item; begin: of the audio, in seconds from the start of the slice."""
    segments, offset = [], item["slice_start_s"]
    turns = None
    if (rows := item.get("turns")) is not None:
        clock = offset + begin
        turns = [Turn(row["start_s"] - clock, row["end_s"] - clock, row["speaker"]) for row in rows]
    for segment in find_segments(pcm.samples, pcm.sample_rate, how, begin, turns):
        start = round(begin + segment.start_s, 4)  # the same value in whichever item it is computed
        if start < item["start_s"] or (start >= item["end_s"] and not item["last"]):
            continue
        first, last = (round(t * pcm.sample_rate) for t in (segment.start_s, segment.end_s))
        end = begin + segment.end_s
        if how.vad == "none":  # with voice activity detection there are no silent edges to trim
            left, right = trimmed(pcm.samples[first:last], pcm.sample_rate)
            if right - left >= how.min_segment_s * pcm.sample_rate:
                end -= (last - first - right) / pcm.sample_rate
                start += left / pcm.sample_rate
                first, last = first + left, first + right
        placed = replace(segment, start_s=round(offset + start, 4), end_s=round(offset + end, 4))
        segments.append((placed, pcm.samples[first:last]))
    return segments
