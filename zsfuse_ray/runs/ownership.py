"""Whose results an output folder holds: resume the same job, refuse any other."""

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
    """Return the record of this very job where the folder holds one, to be resumed or found finished.

    record: the JSON file that a job of this kind keeps in its folder, with what decided its results under
    "config". what: the kind of job, for messages. ours: names that a job of this kind writes; without a
    record, nothing of these names may be there. decides: what decides this job's results, None for a job that
    cannot be resumed. Nothing is written or deleted.

    None: the folder is free, or is to be overwritten. InputError: a file of another program is in the way,
    or, without overwrite, the folder holds the results of another configuration.
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
    """InputError that names the old and new values where a run in the folder had other options."""
    changed = [f"{k} {_short(then.get(k))} → {_short(now[k])}" for k in now if then.get(k) != now[k]]
    if changed:
        raise InputError(
            f"{out.uri} holds another run's results ({'; '.join(changed)}); "
            "use another --output or --overwrite"
        )


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
