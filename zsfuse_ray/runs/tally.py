"""Counts that tasks report while a pass runs, kept in an actor on the driver's node."""

from collections import Counter
from typing import Any, cast

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote(num_cpus=0)
class Tally:
    """Sums the counts that tasks report."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()
        self.sums = {"planned_s": 0.0, "audio_s": 0.0}

    def add(self, counts: dict[str, float]) -> None:
        """Add the counts of one task."""
        for name, count in counts.items():
            self.sums[name] += count

    def begin(self, item_id: int) -> int:
        """How often this item was started and not finished, including this time."""
        self.begun[item_id] += 1
        return self.begun[item_id]

    def end(self, item_id: int) -> None:
        """Record that the item finished, with or without an error."""
        self.begun.pop(item_id, None)

    def read(self) -> dict[str, float]:
        """The sums so far."""
        return self.sums


def report(tally: Any, encoded: pa.Table) -> None:
    """Add encoded rows to the tally."""
    items = [item for row in encoded["items"].to_pylist() for item in row]
    tally.add.remote({name: sum(item[name] for item in items) for name in ("planned_s", "audio_s")})


def sums(tally: Any) -> dict[str, float]:
    """The tally's sums so far."""
    return cast(dict[str, float], ray.get(tally.read.remote()))


def start_tally() -> Any:
    """A Tally on the driver's node: other nodes may be spot instances and disappear."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Tally.options(scheduling_strategy=here).remote()
