"""Memory and speed of a search, measured from another process with a local Ray."""

import pytest

from zsfuse_ray.benchmark.memory import Task, watch


def test_a_search_is_measured_to_its_end():
    seen = watch(Task(segments=500, templates=3, blocks=2), minutes=None)
    assert seen.tried == 2 * 7 * 101
    assert 0.2 < max(seen.gigabytes) < 8
    assert seen.seconds == pytest.approx(sorted(seen.seconds))
