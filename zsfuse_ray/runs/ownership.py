"""Check which job's results an output folder holds: resume the same job, refuse any other."""

from collections.abc import Mapping, Sequence
from typing import Any

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output


def claim(
    out: Output,
    *,
    record: str,
    what: str,
    ours: Sequence[str],
    decides: Mapping[str, Any] | None,
    overwrite: bool,
) -> dict[str, Any] | None:
    """Return the record of this job if the folder holds one; it may be unfinished or complete.

    record: the JSON file that a job of this kind keeps in its folder; its "config" holds the options that
    determined the results. what: the kind of job, for messages. ours: names that a job of this kind writes;
    without a record, none of them may exist. decides: options that determine this job's results, None for a
    job that cannot be resumed. Nothing is written or deleted.

    None: the folder is free, or is to be overwritten. InputError: a file of another program has one of these
    names or, without overwrite, the folder holds the results of another configuration.
    """
    content = out.read_json(record)
    if content is None:
        if taken := next((name for name in ours if out.exists(name)), None):
            raise InputError(f"{out.uri}/{taken} exists, but no {what} wrote it; use another --output")
        return None
    if overwrite:
        return None
    if decides is None:
        raise InputError(
            f"{out.uri} holds the results of another {what}; use another --output or --overwrite"
        )
    then = content.get("config")
    if not isinstance(then, dict):
        raise InputError(
            f"{out.uri}/{record} exists, but no {what} wrote it; use another --output or --overwrite"
        )
    refuse_other_config(out, then, decides)
    return content


def refuse_other_config(out: Output, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """InputError that names the old and new values if a run in the folder had other options."""
    changed = [f"{k} {_short(then.get(k))} → {_short(now[k])}" for k in now if then.get(k) != now[k]]
    if changed:
        raise InputError(
            f"{out.uri} holds another run's results ({'; '.join(changed)}); "
            "use another --output or --overwrite"
        )


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
