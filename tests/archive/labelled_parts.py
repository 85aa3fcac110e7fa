"""Label the parts of the small archive, and the expected content of their tables."""

from dataclasses import replace
from typing import Any

from tests.archive.encoded_folders import (
    LABELLING,
    Small,
    embedding_of,
    output_of,
)
from zsfuse_ray.archive.layout import RECORDINGS, SEGMENTS
from zsfuse_ray.archive.parts import (
    LabelTask,
    label_part,
)
from zsfuse_ray.archive.passes import Encoded
from zsfuse_ray.archive.summaries import Repetition
from zsfuse_ray.method.labelling import Labelling, label_columns
from zsfuse_ray.runs.folder import REJECTS

TABLES = (SEGMENTS, RECORDINGS, REJECTS)
REPEATED = Repetition((1, 2), 16_000, 32_000, "repeat_pad", False)


def task_of(
    small: Small, encoded: Encoded, labelling: Labelling | None = LABELLING, **changes: Any
) -> LabelTask:
    keys = {"alm": "alm", "specialist": "specialist"} if labelling else {}
    wanted = {"alm": (1, 2), "specialist": ()}
    task = LabelTask(small.plan, encoded, small.out, labelling, keys, wanted, {"alm": REPEATED}, "digest")
    return replace(task, **changes)


def label_all(task: LabelTask) -> list[dict]:
    return [label_part(task, part) for part in task.plan.parts()]


def tables(small: Small) -> dict[str, list[dict]]:
    return {name: small.out.read_table(name).to_pylist() for name in TABLES}


def expected_columns(segment: dict) -> dict[str, Any]:
    values = (
        embedding_of(segment, "alm", (1, 2))[None],
        output_of(segment, "specialist")[None],
        output_of(segment, "specialist", 1)[None],
    )
    return {name: column[0] for name, column in label_columns(LABELLING, *values).items()}
