"""Counts and rejects of each part, with and without dropped recordings."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.archive.encoded_folders import (
    BOTH,
    LABELS,
    THEIRS,
    Small,
    output_of,
    planned_rows,
)
from tests.archive.labelled_parts import TABLES, expected_columns, label_all, tables, task_of
from zsfuse_ray.archive.layout import LABELLED
from zsfuse_ray.archive.parts import (
    label_part,
    planned_items,
    planned_recordings,
    state_name,
)
from zsfuse_ray.method.zeroshot import softmax


def test_the_counts_of_each_part(small: Small) -> None:
    counted = label_all(task_of(small, small.encode(BOTH)))
    for part, counts in zip(small.parts, counted, strict=True):
        rows = [row for row in small.rows if row["part"] == part.number]
        items = [item for row in rows for item in row["items"]]
        segments = [segment for row in rows for segment in row["segments"]]
        seconds = [segment["end_s"] - segment["start_s"] for segment in segments]
        spoken = dict.fromkeys(LABELS, 0.0)
        confidence: dict[str, Counter[str]] = {name: Counter() for name in LABELS}
        for segment, length in zip(segments, seconds, strict=True):
            columns = expected_columns(segment)
            spoken[columns["label"]] += length
            confidence[columns["label"]][str(round(100 * columns["confidence"]))] += 1
        assert counts.pop("effective_repetition").keys() == {"alm"}
        logits = [output_of(segment, "specialist") for segment in segments]
        outside = sum(
            float(softmax(row)[[THEIRS.index(name) for name in ("neutral", "joy")]].sum()) for row in logits
        )
        assert counts.pop("outside_ppm") == pytest.approx(1e6 * outside, abs=len(segments))
        assert counts == {
            "recordings": part.end - part.first,
            "unreadable": int(part.number == 2),
            "items": len(items),
            "segments": len(segments),
            "audio_s": pytest.approx(sum(item["audio_s"] for item in items)),
            "speech_s": pytest.approx(sum(seconds)),
            "failures": int(part.number > 0),  # silence is not a failure
            "rejects": [{}, {"corrupt": 1, "no_speech": 1}, {"corrupt": 1}][part.number],
            "audio_notes": {},
            "label_s": {name: pytest.approx(value) for name, value in spoken.items()},
            "confidence": {name: dict(counted) for name, counted in confidence.items()},
            "encoder_inputs": sum(row["encoder_inputs"] for row in rows),
        }
        json.dumps(counts)  # fails for NumPy numbers


def test_the_name_of_the_counts_depends_on_part_and_digest(small: Small) -> None:
    task = task_of(small, small.encode(BOTH))
    part = small.parts[0]
    counts = label_part(task, part)
    name = state_name(part, "digest")
    content = small.out.read_json(name)
    assert content is not None
    assert content["counts"] == counts
    assert name.startswith(f"{LABELLED}/part-000000.")
    others = [
        replace(part, number=1),
        replace(part, first=1),
        replace(part, end=9),
        replace(part, dropped=(1,)),
    ]
    names = {name, state_name(part, "other"), *(state_name(other, "digest") for other in others)}
    assert len(names) == 6


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1), (2, 4), (3,)])
def test_dropped_recordings_are_not_in_tables_or_counts(small: Small, gone: tuple[int, ...]) -> None:
    encoded = small.encode(BOTH)
    whole = label_all(task_of(small, encoded))
    before = tables(small)
    plan = replace(small.plan, dropped=np.array(gone))
    counts = label_all(task_of(small, encoded, plan=plan))
    uris = {f"https://host/{id}.wav?token=***" for id in gone}
    after = tables(small)
    for name in TABLES:
        assert after[name] == [row for row in before[name] if row["recording_uri"] not in uris]
    kept = [id for id in range(5) if id not in gone]
    items = [item for row in small.rows for item in row["items"] if item["recording_id"] in kept]
    total = {
        name: sum(one[name] for one in counts) for name in ("recordings", "items", "segments", "unreadable")
    }
    assert total == {
        "recordings": len(kept),
        "items": len(items),
        "segments": len(after["segments"]),
        "unreadable": int(4 in kept),
    }
    assert sum(one["speech_s"] for one in counts) == pytest.approx(
        sum(row["speech_s"] for row in after["recordings"])
    )
    assert sum(one["segments"] for one in whole) == len(before["segments"])
    names = {state_name(part, "digest") for part in small.parts}
    stale = {state_name(part, "digest") for part in plan.parts()} - names
    assert len(stale) == len({id // 2 for id in gone})


def test_lost_bundles_are_rejects(small: Small) -> None:
    """As if their workers had died on every attempt; a recording without outcomes is not "no_speech"."""
    lost = next(row for row in small.rows if any(item["recording_id"] == 1 for item in row["items"]))
    rest = [row for row in small.rows if row is not lost]
    label_all(task_of(small, small.encode(BOTH, rows=[rest])))
    found = [row for row in tables(small)["rejects"] if row["stage"] == "run"]
    assert [(row["item_id"], row["reason"]) for row in found] == [
        (i["item_id"], "lost") for i in lost["items"]
    ]
    uris = {row["recording_uri"]: row["reason"] for row in tables(small)["rejects"]}
    assert uris["https://host/1.wav?token=***"] == "lost"


def test_planned_items_and_recordings_of_a_part(small: Small) -> None:
    plan = replace(small.plan, dropped=np.array([0]))
    recordings = [planned_recordings(plan, part)["recording_id"].to_pylist() for part in plan.parts()]
    assert recordings == [[1], [2, 3], [4]]
    items = [planned_items(plan, part).to_pylist() for part in plan.parts()]
    own = [
        [{name: item[name] for name in ("item_id", "recording_id")} for item in row["items"]]
        for row in small.rows
    ]
    flat = [item for row in own for item in row if item["recording_id"]]
    assert [item for part in items for item in part] == flat
    assert items[2] == []
    assert isinstance(planned_items(plan, plan.parts()[2]), pa.Table)


def test_every_reject_has_its_stage_and_reason(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    (failed,) = [item["item_id"] for row in small.rows for item in row["items"] if item["reason"]]
    names = ("recording_uri", "item_id", "stage", "reason", "message")
    assert [tuple(row[name] for name in names) for row in tables(small)["rejects"]] == [
        ("https://host/3.wav?token=***", failed, "decode", "corrupt", "no frame"),
        ("https://host/2.wav?token=***", None, "segment", "no_speech", "no speech found"),
        ("https://host/4.wav?token=***", None, "probe", "corrupt", "it broke"),
    ]


def test_slices_of_one_file_can_be_told_apart(small: Small) -> None:
    """Recordings and rejects have the slice, the id and a manifest's other columns of each of its rows."""
    label_all(task_of(small, small.encode(BOTH)))
    found = tables(small)
    (slice,) = [row for row in found["recordings"] if row["recording_id"] == 1]
    assert (slice["start_s"], slice["end_s"], slice["emotion"]) == (30.0, 45.0, "e1")
    for name in ("recordings", "rejects"):
        for row in found[name]:
            planned = planned_rows()[row["recording_id"]]
            start, end = planned["start_s"], planned["end_s"]
            if name == "recordings":  # of a whole file, its beginning and end
                start = start or 0.0
                end = start + row["duration_s"] if end is None else end
            assert (row["start_s"], row["end_s"]) == (start, end)
            assert (row["emotion"], row["label"]) == (planned["emotion"], planned["label"])
    ids = [row["recording_id"] for row in found["recordings"]]
    assert len(set(ids)) == len(ids)
