"""Praat TextGrid in its long text form: tiers of labels, confidences and, if any, speakers and texts.

https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
"""

from collections.abc import Callable, Iterator, Sequence

from zsfuse_ray.reporting.exports.labelled import Recording, Segment
from zsfuse_ray.reporting.exports.lanes import lanes


def text(recording: Recording) -> str:
    """Return the TextGrid of a recording; the intervals of a tier fill its whole duration."""
    tiers = []
    for n, lane in enumerate(lanes(recording.segments), start=1):
        number = f" {n}" if n > 1 else ""
        tiers.append((f"emotion{number}", _intervals(lane, recording.duration_s, lambda one: one.label)))
        confidences = _intervals(lane, recording.duration_s, lambda one: f"{one.confidence:.2f}")
        tiers.append((f"confidence{number}", confidences))
        for name in ("speaker", "text"):
            if any(getattr(one, name) for one in recording.segments):
                told = _intervals(lane, recording.duration_s, lambda one, name=name: getattr(one, name) or "")
                tiers.append((f"{name}{number}", told))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {recording.duration_s:.4f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for n, (name, intervals) in enumerate(tiers, start=1):
        lines += [f"    item [{n}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {recording.duration_s:.4f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for i, (start, end, content) in enumerate(intervals, start=1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start:.4f}"]
            lines += [f"            xmax = {end:.4f}", f'            text = "{content}"']
    return "\n".join(lines) + "\n"


def _intervals(
    lane: Sequence[Segment], duration_s: float, content: Callable[[Segment], str]
) -> list[tuple[float, float, str]]:
    """The segments' intervals and, between them, those without text; at least one."""

    def every() -> Iterator[tuple[float, float, str]]:
        place = 0.0
        for one in lane:
            yield place, one.start_s, ""
            yield one.start_s, one.end_s, content(one).replace('"', '""')
            place = one.end_s
        yield place, duration_s, ""

    return [(start, end, told) for start, end, told in every() if f"{start:.4f}" != f"{end:.4f}"] or [
        (0.0, duration_s, "")
    ]
