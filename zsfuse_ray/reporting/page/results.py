"""What the page shows of an evaluation and a tuning: their tables, verdicts and figures."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zsfuse_ray.errors import InputError
from zsfuse_ray.reporting.canvas import FIGURES
from zsfuse_ray.reporting.cells import percent
from zsfuse_ray.runs.folder import Output

MOST_BYTES = 2_000_000  # of all figures of one of them


@dataclass(frozen=True)
class Shown:
    """A table with its heading and rows, sentences below it, and figures as (name, data URI)."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]


def evaluation(uri: str) -> Shown:
    """Read the output of ``zsfuse evaluate``; InputError if there is none."""
    out, record = _open(uri, "--evaluation", "evaluation.json", "evaluate")
    corpora = record["corpora"]
    names = {key: one["name"] for table in corpora.values() for key, one in table["systems"].items()}
    rows = tuple(
        (name, *(percent(table["systems"].get(key, {}).get("ua")) for table in corpora.values()))
        for key, name in names.items()
    )
    notes = [f"{corpus}: {table['verdict']}" for corpus, table in corpora.items() if "verdict" in table]
    notes += record["seen_in_training"].values()
    head = ("UA in % (95 % interval over speakers)", *corpora)
    return Shown("Evaluation", head, rows, tuple(notes), _figures(out))


def tuning(uri: str) -> Shown:
    """Read the output of ``zsfuse tune``; InputError if there is none."""
    out, record = _open(uri, "--tuning", "tune.json", "tune")
    rows = tuple((one["name"], percent(one["ua"])) for one in record["systems"].values())
    notes = (record["tuned"]["verdict"], *record["seen_in_training"].values())
    head = ("system", "UA, nested, in % (95 % interval)")
    return Shown("Tuning", head, rows, notes, _figures(out))


def _open(uri: str, option: str, name: str, verb: str) -> tuple[Output, Mapping[str, Any]]:
    out = Output.open(uri, option)
    record = out.read_json(name)
    if record is None:
        raise InputError(f"{option} {out.uri}: no {name} there; name the output of zsfuse {verb}")
    return out, record


def _figures(out: Output) -> tuple[tuple[str, str], ...]:
    """The figures as PNG, as many as fit."""
    found, size = [], 0
    for path in sorted(out.files(FIGURES)):
        name, dot, form = path.rsplit("/", 1)[1].rpartition(".")
        if not dot or form != "png":
            continue
        content = base64.b64encode(out.read_bytes(path)).decode()
        size += len(content)
        if size > MOST_BYTES:
            break
        found.append((name.replace("_", " "), f"data:image/png;base64,{content}"))
    return tuple(found)
