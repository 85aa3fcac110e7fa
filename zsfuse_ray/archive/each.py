"""Work on the parts of a plan: in Ray tasks if Ray is running, else in this process."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import ray

from zsfuse_ray.archive.plan import Part
from zsfuse_ray.runs import cluster

S = TypeVar("S")
T = TypeVar("T")


def each_part(
    function: Callable[[S, Part], T], shared: S, parts: Sequence[Part], own_ray: bool
) -> Iterator[T]:
    """Results for parts, in their order: from Ray tasks if Ray is running, else from this process.

    In order, because sums of floats depend on it. own_ray: whether this process started Ray on this machine.
    """
    if not ray.is_initialized() or len(parts) <= 1:
        for part in parts:
            yield function(shared, part)
        return
    work, stored = ray.remote(num_cpus=1)(function), ray.put(shared)
    # a local Ray has more logical CPUs than the machine has cores
    at_once = cluster.cores() if own_ray else max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    waiting, running, unread = iter(parts), [], deque()
    while True:
        for part in islice(waiting, at_once - len(running)):
            running.append(work.remote(stored, part))
            unread.append(running[-1])
        if not unread:
            return
        _, running = ray.wait(running)
        while unread and unread[0] not in running:
            yield ray.get(unread.popleft())
