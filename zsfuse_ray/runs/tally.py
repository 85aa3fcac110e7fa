"""Counts that tasks report while a pass runs, kept in an actor on the driver's node."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions

STOPS_A_DEATH = 3  # runs that ended while an input was in progress weigh as much as one death of its process
SAVE_EVERY_S = 1.0
HALVED = "halved_batches"  # that did not fit into the memory of a GPU


class Attempts:
    """How often the work on each input was started and not finished.

    Within a run that is a death of the process that did it. At the start of a run, what the one before had in
    progress may as well have been stopped by its user, so it counts less.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        """saved: the `state` in which an earlier run ended."""
        saved = saved or {}
        self.begun: set[str] = set()
        self.deaths: Counter[str] = Counter(saved.get("deaths", {}))
        self.stops: Counter[str] = Counter(saved.get("stops", {}))
        self.stops.update(saved.get("begun", ()))

    def begin(self, key: int | str) -> int:
        """The number of this attempt, from 1."""
        key = str(key)
        self.deaths[key] += key in self.begun
        self.begun.add(key)
        return 1 + self.deaths[key] + self.stops[key] // STOPS_A_DEATH

    def end(self, key: int | str) -> None:
        """Record that the attempt finished, with or without an error."""
        for counts in (self.deaths, self.stops):
            counts.pop(str(key), None)
        self.begun.discard(str(key))

    def state(self) -> dict[str, Any]:
        """For a later run."""
        return {
            "begun": sorted(self.begun),
            "deaths": {key: count for key, count in self.deaths.items() if count},
            "stops": dict(self.stops),
        }


@ray.remote(num_cpus=0)
class Tally:
    """Sums the counts that tasks report; counts attempts, with `keep` also across runs."""

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.sums = {"planned_s": 0.0, "audio_s": 0.0, HALVED: 0.0}
        self.stopped = threading.Event()
        self.saving: threading.Thread | None = None

    def keep(self, out: Output, name: str) -> None:
        """Continue the attempts in a JSON file, and keep it up to date until `settle`."""
        try:
            saved = out.read_json(name)
        except InputError:  # cut off by a full disk: only counts are lost
            saved = None
        self.attempts = Attempts(saved and saved.get("attempts"))
        self.stopped.clear()  # a pass may be run again
        self.saving = threading.Thread(target=self._save, args=(out, name), daemon=True)
        self.saving.start()

    def settle(self) -> None:
        """Stop writing the file."""
        self.stopped.set()
        if self.saving is not None:
            self.saving.join()

    def add(self, counts: dict[str, float]) -> None:
        """Add the counts of one task."""
        for name, count in counts.items():
            self.sums[name] += count

    def begin(self, key: int | str) -> int:
        """Which attempt at this input starts now, from 1."""
        return self.attempts.begin(key)

    def end(self, key: int | str) -> None:
        """Record that the attempt finished."""
        self.attempts.end(key)

    def _save(self, out: Output, name: str) -> None:
        """Write the attempts whenever they have changed, until `settle`."""
        written = self.attempts.state()
        while not self.stopped.wait(SAVE_EVERY_S):
            try:
                if (now := self.attempts.state()) != written:
                    out.write_json(name, {"versions": versions(), "attempts": now})
                    written = now
            except (OSError, RuntimeError, pa.ArrowException):
                continue  # a full disk or a store that does not answer stops the run where it writes its rows

    def read(self) -> dict[str, float]:
        """The sums so far."""
        return self.sums


def report(tally: Any, encoded: pa.Table | None, halved: int = 0) -> None:
    """Add encoded rows and halved batches to the tally; None: a later pool reports the rows."""
    counts: dict[str, float] = {HALVED: halved} if halved else {}
    if encoded is not None:
        items = [item for row in encoded["items"].to_pylist() for item in row]
        counts |= {name: sum(item[name] for item in items) for name in ("planned_s", "audio_s")}
    if counts:
        tally.add.remote(counts)


def sums(tally: Any) -> dict[str, float]:
    """The tally's sums so far."""
    return cast(dict[str, float], ray.get(tally.read.remote()))


def start_tally() -> Any:
    """A Tally on the driver's node: other nodes may be spot instances and disappear."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Tally.options(scheduling_strategy=here).remote()
