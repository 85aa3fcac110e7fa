"""The tables of each part against loops in plain Python over the values that were encoded."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from encoded_folders import (
    BOTH,
    COLUMNS,
    LABELLING,
    LABELS,
    SECRET,
    Small,
    embedding_of,
    every_segment,
    output_of,
    planned_rows,
)

from zsfuse_ray.archive.layout import LABELLED, RECORDINGS, SEGMENTS, part_file
from zsfuse_ray.archive.parts import (
    SEGMENTS_PER_ITEM,
    LabelTask,
    label_part,
    planned_items,
    planned_recordings,
    state_name,
)
from zsfuse_ray.archive.passes import Encoded
from zsfuse_ray.archive.reading import BUNDLES_AT_ONCE
from zsfuse_ray.archive.summaries import ARC_PARTS, Repetition
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


def test_segments_are_labelled_one_row_each(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    places: Counter[int] = Counter()
    rows, expected = tables(small)["segments"], every_segment(small.rows)
    assert len(rows) == len(expected) > 5
    for row, (recording_id, segment) in zip(rows, expected, strict=True):
        item_id = segment["item_id"]
        assert row["recording_id"] == recording_id
        assert row["recording_uri"] == f"https://host/{recording_id}.wav?token=***"
        assert row["segment_id"] == item_id * SEGMENTS_PER_ITEM + places[item_id]
        places[item_id] += 1
        for name in ("item_id", "start_s", "end_s", "speech_prob"):
            assert row[name] == segment[name]
        for name, value in expected_columns(segment).items():
            assert row[name] == (value if name == "label" else pytest.approx(value, abs=1e-6))
        assert row["emotion"] == f"e{recording_id}"
        assert row["manifest_label"] == f"theirs {recording_id}"  # beside the label of this run
        assert "specialist_pleasant_surprise" not in row
    assert {f"p_{name}" for name in COLUMNS} <= set(rows[0])
    assert len({row["segment_id"] for row in rows}) == len(rows)


def test_recordings_sum_up_their_segments(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    rows = tables(small)["recordings"]
    assert [row["emotion"] for row in rows] == ["e0", "e1", "e2", "e3"]  # the last could not be opened
    items = [item for row in small.rows for item in row["items"]]
    for row, source in zip(rows, planned_rows(), strict=False):
        id = source["recording_id"]
        own = [segment | expected_columns(segment) for n, segment in every_segment(small.rows) if n == id]
        duration = sum(item["audio_s"] for item in items if item["recording_id"] == id)
        assert row["duration_s"] == pytest.approx(duration)
        assert row["n_segments"] == len(own)
        time = dict.fromkeys(LABELS, 0.0)
        arc = [dict.fromkeys(LABELS, 0.0) for _ in range(ARC_PARTS)]
        for segment in own:
            seconds = segment["end_s"] - segment["start_s"]
            time[segment["label"]] += seconds
            middle = (segment["start_s"] + segment["end_s"]) / 2 - (source["start_s"] or 0.0)
            arc[min(ARC_PARTS - 1, int(ARC_PARTS * middle / duration))][segment["label"]] += seconds
        speech = sum(time.values())
        assert row["speech_s"] == pytest.approx(speech)
        for label, name in zip(LABELS, COLUMNS, strict=True):
            assert row[f"share_{name}"] == pytest.approx(time[label] / speech if own else 0.0)
        assert row["dominant_label"] == (max(time, key=time.__getitem__) if own else None)
        assert row["arc"] == [max(part, key=part.__getitem__) if any(part.values()) else None for part in arc]
        confidences = [segment["confidence"] for segment in own]
        assert row["mean_confidence"] == pytest.approx(sum(confidences) / max(1, len(own)), rel=1e-5)
        assert row["label"] == source["label"]
    assert [row["n_segments"] for row in rows[2:]] == [0, 0]


def test_every_reject_has_its_stage_and_reason(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    (failed,) = [item["item_id"] for row in small.rows for item in row["items"] if item["reason"]]
    names = ("recording_uri", "item_id", "stage", "reason", "message")
    assert [tuple(row[name] for name in names) for row in tables(small)["rejects"]] == [
        ("https://host/3.wav?token=***", failed, "decode", "corrupt", "no frame"),
        ("https://host/2.wav?token=***", None, "segment", "no_speech", "no speech was found in it"),
        ("https://host/4.wav?token=***", None, "probe", "corrupt", "it broke"),
    ]


def test_the_counts_of_each_part(small: Small) -> None:
    counted = label_all(task_of(small, small.encode(BOTH)))
    for part, counts in zip(small.parts, counted, strict=True):
        rows = [row for row in small.rows if row["part"] == part.number]
        items = [item for row in rows for item in row["items"]]
        segments = [segment for row in rows for segment in row["segments"]]
        seconds = [segment["end_s"] - segment["start_s"] for segment in segments]
        spoken = dict.fromkeys(LABELS, 0.0)
        for segment, length in zip(segments, seconds, strict=True):
            spoken[expected_columns(segment)["label"]] += length
        assert counts.pop("effective_repetition").keys() == {"alm"}
        assert counts == {
            "recordings": part.end - part.first,
            "unreadable": int(part.number == 2),
            "items": len(items),
            "segments": len(segments),
            "audio_s": pytest.approx(sum(item["audio_s"] for item in items)),
            "speech_s": pytest.approx(sum(seconds)),
            "failures": int(part.number > 0),  # silence is none
            "rejects": [{}, {"corrupt": 1, "no_speech": 1}, {"corrupt": 1}][part.number],
            "label_s": {name: pytest.approx(value) for name, value in spoken.items()},
            "encoder_inputs": sum(row["encoder_inputs"] for row in rows),
        }
        json.dumps(counts)  # NumPy's numbers would not go into a file


def test_counts_are_written_last_under_the_name_of_the_digest(small: Small) -> None:
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


@pytest.mark.parametrize("labelling", [LABELLING, None])
def test_a_part_without_any_bundle_has_tables_with_all_columns(small: Small, labelling) -> None:
    label_all(task_of(small, small.encode(BOTH), labelling))
    names = TABLES if labelling else TABLES[1:]
    for name in names:
        full, empty = (small.out.read_table(part_file(name, part)) for part in (0, 2))
        assert len(empty) == (name == REJECTS)
        assert empty.schema == full.schema
    assert small.out.exists(SEGMENTS) == (labelling is not None)


@pytest.mark.parametrize("alone", [{"text": None}, {"specialist_labels": None}])
def test_one_model_alone_has_no_columns_of_the_other(small: Small, alone: dict) -> None:
    labelling = replace(LABELLING, **alone)
    kind, other = ("specialist", "alm") if "text" in alone else ("alm", "specialist")
    wanted = {kind: (1,) if kind == "alm" else ()}
    task = task_of(small, small.encode(BOTH), labelling, keys={kind: kind}, wanted=wanted)
    label_all(task)
    schemas = [small.out.read_table(part_file(SEGMENTS, n)).schema for n in range(3)]
    assert schemas[0] == schemas[1] == schemas[2]
    assert f"{kind}_sad" in schemas[0].names
    assert not any(name.startswith(f"{other}_") for name in schemas[0].names)


def test_without_labels_recordings_are_summed_up_all_the_same(small: Small) -> None:
    counts = label_all(task_of(small, small.encode(BOTH), None))
    rows = small.out.read_table(RECORDINGS)
    assert rows.column_names == [
        *("recording_uri", "duration_s", "speech_s", "n_segments", "emotion", "label"),
    ]
    segments = [segment for _, segment in every_segment(small.rows)]
    speech = sum(segment["end_s"] - segment["start_s"] for segment in segments)
    assert sum(rows["speech_s"].to_pylist()) == pytest.approx(speech)
    assert [one["label_s"] for one in counts] == [{}, {}, {}]


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1), (2, 4), (3,)])
def test_dropped_recordings_are_in_no_table_and_no_count(small: Small, gone: tuple[int, ...]) -> None:
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


def test_bundles_that_were_lost_are_rejects(small: Small) -> None:
    """As if their workers had died each time: a recording none of whose items was done is not silent."""
    lost = next(row for row in small.rows if any(item["recording_id"] == 1 for item in row["items"]))
    rest = [row for row in small.rows if row is not lost]
    label_all(task_of(small, small.encode(BOTH, rows=[rest])))
    found = [row for row in tables(small)["rejects"] if row["stage"] == "run"]
    assert [(row["item_id"], row["reason"]) for row in found] == [
        (i["item_id"], "lost") for i in lost["items"]
    ]
    uris = {row["recording_uri"]: row["reason"] for row in tables(small)["rejects"]}
    assert uris["https://host/1.wav?token=***"] == "lost"


def test_a_labelling_does_not_depend_on_how_bundles_are_read(small: Small, monkeypatch) -> None:
    encoded = small.encode(BOTH)
    label_all(task_of(small, encoded))
    before = {path: small.out.fs.open_input_file(path).read() for path in files(small)}
    monkeypatch.setattr("zsfuse_ray.archive.reading.BUNDLES_AT_ONCE", 1)
    label_all(task_of(small, encoded))
    assert {path: small.out.fs.open_input_file(path).read() for path in files(small)} == before
    assert BUNDLES_AT_ONCE > 1


def files(small: Small) -> list[str]:
    return [path for name in (*TABLES, LABELLED) for path in small.out.files(name)]


def test_no_credentials_reach_a_table(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    for table in tables(small).values():
        text = json.dumps(table)
        assert SECRET not in text
        assert "host/0.wav" in text or "host/4.wav" in text


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
