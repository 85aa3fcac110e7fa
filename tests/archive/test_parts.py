"""The tables of each part compared with plain Python loops over the encoded values."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.archive.encoded_folders import (
    BOTH,
    COLUMNS,
    LABELLING,
    LABELS,
    SECRET,
    Small,
    every_segment,
    planned_rows,
)
from tests.archive.labelled_parts import TABLES, expected_columns, label_all, tables, task_of
from zsfuse_ray.archive.layout import LABELLED, RECORDINGS, SEGMENTS, part_file
from zsfuse_ray.archive.parts import (
    SEGMENTS_PER_ITEM,
)
from zsfuse_ray.archive.reading import BUNDLES_AT_ONCE
from zsfuse_ray.archive.summaries import ARC_PARTS
from zsfuse_ray.runs.folder import REJECTS


@pytest.mark.parametrize("order", [1, -1])
def test_segments_have_one_labelled_row_each(small: Small, order: int) -> None:
    """Sorted by recording and time, whatever the order of the bundles."""
    label_all(task_of(small, small.encode(BOTH, rows=[small.rows[::order]])))
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


def test_recordings_summarise_their_segments(small: Small) -> None:
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


@pytest.mark.parametrize("labelling", [LABELLING, None])
def test_tables_of_a_part_without_bundles_have_all_columns(small: Small, labelling) -> None:
    label_all(task_of(small, small.encode(BOTH), labelling))
    names = TABLES if labelling else TABLES[1:]
    for name in names:
        full, empty = (small.out.read_table(part_file(name, part)) for part in (0, 2))
        assert len(empty) == (name == REJECTS)
        assert empty.schema == full.schema
    assert small.out.exists(SEGMENTS) == (labelling is not None)


@pytest.mark.parametrize("alone", [{"text": None}, {"specialist_labels": None}])
def test_a_single_model_has_no_columns_of_the_other_kind(small: Small, alone: dict) -> None:
    labelling = replace(LABELLING, **alone)
    kind, other = ("specialist", "alm") if "text" in alone else ("alm", "specialist")
    wanted = {kind: (1,) if kind == "alm" else ()}
    task = task_of(small, small.encode(BOTH), labelling, keys={kind: kind}, wanted=wanted)
    label_all(task)
    schemas = [small.out.read_table(part_file(SEGMENTS, n)).schema for n in range(3)]
    assert schemas[0] == schemas[1] == schemas[2]
    assert f"{kind}_sad" in schemas[0].names
    assert not any(name.startswith(f"{other}_") for name in schemas[0].names)


def test_recordings_are_summarised_without_labels(small: Small) -> None:
    counts = label_all(task_of(small, small.encode(BOTH), None))
    rows = small.out.read_table(RECORDINGS)
    assert rows.column_names == [
        *("recording_uri", "recording_id", "start_s", "end_s"),
        *("duration_s", "speech_s", "n_segments", "audio_note", "emotion", "label"),
    ]
    segments = [segment for _, segment in every_segment(small.rows)]
    speech = sum(segment["end_s"] - segment["start_s"] for segment in segments)
    assert sum(rows["speech_s"].to_pylist()) == pytest.approx(speech)
    assert [one["label_s"] for one in counts] == [{}, {}, {}]


def test_labels_do_not_depend_on_how_many_bundles_are_read_at_once(small: Small, monkeypatch) -> None:
    encoded = small.encode(BOTH)
    label_all(task_of(small, encoded))
    before = {path: small.out.fs.open_input_file(path).read() for path in files(small)}
    monkeypatch.setattr("zsfuse_ray.archive.reading.BUNDLES_AT_ONCE", 1)
    label_all(task_of(small, encoded))
    assert {path: small.out.fs.open_input_file(path).read() for path in files(small)} == before
    assert BUNDLES_AT_ONCE > 1


def files(small: Small) -> list[str]:
    return [path for name in (*TABLES, LABELLED) for path in small.out.files(name)]


def test_tables_contain_no_credentials(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    for table in tables(small).values():
        text = json.dumps(table)
        assert SECRET not in text
        assert "host/0.wav" in text or "host/4.wav" in text
