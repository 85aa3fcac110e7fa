"""Audacity labels: start, end and text, separated by tabs (File > Import > Labels)."""

from zsfuse_ray.reporting.exports.labelled import Recording


def text(recording: Recording) -> str:
    """Return the label file of a recording; times in seconds."""
    lines = (
        f"{one.start_s:.4f}\t{one.end_s:.4f}\t{' '.join(one.label.split())} {one.confidence:.2f}\n"
        for one in recording.segments
    )
    return "".join(lines)
