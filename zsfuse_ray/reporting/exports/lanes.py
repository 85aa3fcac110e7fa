"""Segments in lanes without overlaps, for formats whose tiers cannot hold overlapping intervals."""

from collections.abc import Sequence

from zsfuse_ray.reporting.exports.labelled import Segment


def lanes(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Put each segment, by start, in the first lane that is free; one lane, perhaps empty, at least.

    Segments overlap only where a manifest's slices or the speakers of a recording do.
    """
    found: list[list[Segment]] = [[]]
    for one in sorted(segments, key=lambda segment: segment.start_s):
        free = next((lane for lane in found if not lane or lane[-1].end_s <= one.start_s), None)
        if free is None:
            free = []
            found.append(free)
        free.append(one)
    return found
