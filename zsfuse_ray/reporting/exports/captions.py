"""Captions: WebVTT (https://www.w3.org/TR/webvtt1/) with the label as the voice of a cue, and SubRip."""

from html import escape

from zsfuse_ray.reporting.exports.labelled import Recording, Segment


def webvtt(recording: Recording) -> str:
    """Return the WebVTT file of a recording, a cue a segment: ``<v label>label 0.87``."""
    cues = (
        f"{_clock(one.start_s, '.')} --> {_clock(one.end_s, '.')}\n<v {escape(_one_line(one.label))}>"
        f"{escape(_content(one), quote=False)}\n"
        for one in recording.segments
    )
    return "\n".join(["WEBVTT\n", *cues])


def subrip(recording: Recording) -> str:
    """Return the SRT file of a recording, an entry a segment."""
    entries = (
        f"{n}\n{_clock(one.start_s, ',')} --> {_clock(one.end_s, ',')}\n{_content(one)}\n"
        for n, one in enumerate(recording.segments, start=1)
    )
    return "\n".join(entries)


def _content(one: Segment) -> str:
    """The label and, on the next line, the transcript."""
    text = _one_line(one.text or "")
    return f"{_one_line(one.label)} {one.confidence:.2f}" + (f"\n{text}" if text else "")


def _one_line(text: str) -> str:
    """A text without line breaks and arrows, which would end or start a cue."""
    return " ".join(text.replace("-->", "->").split())


def _clock(seconds: float, point: str) -> str:
    """Seconds as hours:minutes:seconds and milliseconds."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
