"""Attempts at inputs whose process may die: each is counted, and an input that takes too many is a reject.

Ray retries a task whose worker died for ever, and the same input then kills the next worker.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from zsfuse_ray.errors import redact

MOST_TRIES = 3  # attempts at an item whose process dies; a lost spot machine may also be the cause
BUNDLE_TRIES = 2  # attempts at a whole bundle, before its items are tried one at a time

# Context of one attempt; yields which attempt it is, counting those that started and did not finish.
Attempt = Callable[[int | str], AbstractContextManager[int]]
T = TypeVar("T")


def uncounted(key: int | str) -> AbstractContextManager[int]:
    """An attempt outside a run, where nothing counts them."""
    return nullcontext(1)


def counted(tally: Any) -> Attempt:
    """Attempts that a `runs.tally` counts, which also knows those of earlier, killed runs."""

    @contextmanager
    def attempt(key: int | str) -> Iterator[int]:
        import ray  # lazy: a Labeller does not need Ray

        yield ray.get(tally.begin.remote(key))
        tally.end.remote(key)

    return attempt


def failure(stage: str, reason: str, message: str, *uris: str) -> dict[str, Any]:
    """The fields of OUTCOME that say why an item failed; the message becomes one line without secrets.

    uris: those that it is about, see `redact`.
    """
    return {"stage": stage, "reason": reason, "message": redact(" ".join(message.split()), *uris)[:300]}


def crashed(stage: str) -> dict[str, Any]:
    """The failure of an item that has ended its process too often."""
    return failure(stage, "crashed", f"{stage.removesuffix('e')}ing it ended its process {MOST_TRIES} times")


def item_by_item(
    key: str,
    items: Mapping[int, T],
    work: Callable[[Sequence[T]], Any],
    attempt: Attempt,
    failed: Callable[[Exception], dict[str, Any]],
) -> tuple[list[Any], dict[int, dict[str, Any]]]:
    """Work on all items of a bundle at once; if that fails or has killed processes before, on one at a time.

    key: names the bundle; items: by item_id. failed: the failure for an exception, which it raises again if
    the item is not to blame. Returns the results, in order, of all items or of each (None for one that
    failed), and the failures by item_id.
    """
    with attempt(key) as tries:
        if tries <= BUNDLE_TRIES or not items:
            try:
                return [work(list(items.values()))], {}
            except Exception as error:
                failed(error)  # a fault of one of the items: find it below
        results, failures = [], {}
        for item_id, item in items.items():
            with attempt(f"{key} {item_id}") as of_item:
                result = None
                if of_item > MOST_TRIES:
                    failures[item_id] = crashed("encode")
                else:
                    try:
                        result = work([item])
                    except Exception as error:
                        failures[item_id] = failed(error)
                results.append(result)
    return results, failures
