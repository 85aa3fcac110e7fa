"""RTTM lines (NIST, rich transcription time marked): the label stands where a speaker's name stands."""

import re

from zsfuse_ray.reporting.exports.labelled import Recording


def text(recording: Recording) -> str:
    """Return a line a segment: type, file, channel, start, duration, -, -, label, confidence, -.

    The file is named by its last part; white space in names, which separates fields, becomes "_".
    """
    name = _field(recording.uri.rstrip("/").rsplit("/", 1)[-1])
    lines = (
        f"SPEAKER {name} {(one.channel or 0) + 1} {one.start_s:.4f} {one.end_s - one.start_s:.4f} <NA> <NA> "
        f"{_field(one.label)} {one.confidence:.4f} <NA>\n"
        for one in recording.segments
    )
    return "".join(lines)


def _field(content: str) -> str:
    return re.sub(r"\s", "_", content) or "_"
