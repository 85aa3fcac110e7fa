"""An embedding table in memory compared with the encoded values, and invalid tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.archive.encoded_folders import (
    BOTH,
    DIM,
    MODELS,
    THEIRS,
    Small,
    embedding_of,
    every_segment,
    output_of,
    planned_rows,
    write_plan,
)
from zsfuse_ray.archive.layout import PASSES, PLAN, plan_file
from zsfuse_ray.archive.passes import Computed, drop_passes
from zsfuse_ray.archive.table import key_of, open_table, read_table
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.errors import InputError

PASSES_OF_TWO = [
    {"alm": Computed((1, 2)), "specialist": Computed()},
    {"alm": Computed((4,), (1, 2)), "alm2": Computed((3,))},
]


def refusal(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("passes", [[BOTH], PASSES_OF_TWO])
def test_the_table_is_sorted_by_recording_and_time(small: Small, passes) -> None:
    small.encode(*passes, rows=[small.rows[::-1] for _ in passes])
    table = read_table(small.out.uri)
    expected = every_segment(small.rows)
    assert len(table.segments) == len(expected) > 5
    names = ("item_id", "start_s", "end_s", "speech_prob")
    for row, (recording_id, segment) in zip(table.segments.to_pylist(), expected, strict=True):
        assert row["recording_id"] == recording_id
        assert row["recording_uri"] == f"https://host/{recording_id}.wav?token=***"
        assert {name: row[name] for name in names} == {name: segment[name] for name in names}
        assert row["emotion"] == f"e{recording_id}"
        assert row["label"] == f"theirs {recording_id}"  # the name is not taken here
    ids = table.segments["segment_id"].to_pylist()
    assert ids == sorted(set(ids))
    repeats = (1, 2) if len(passes) == 1 else (1, 2, 4)
    audio = table.audio(repeats)
    assert audio.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(audio, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(audio, [embedding_of(s, "alm", repeats) for _, s in expected], atol=1e-6)
    np.testing.assert_array_equal(table.audio((2, 1)), audio[:, [1, 0]])
    assert not table.vectors
    vectors = read_table(small.out.uri, vectors=True).vectors["specialist"]
    np.testing.assert_array_equal(vectors, [output_of(s, "specialist", 1) for _, s in expected])
    np.testing.assert_array_equal(table.logits(), [output_of(s, "specialist") for _, s in expected])
    keys = ["alm", "specialist"] if len(passes) == 1 else ["alm", "specialist", "alm2"]
    assert list(table.models) == keys
    assert table.models["alm"] == MODELS["alm"] | {"audio_repeats": list(repeats)}
    assert table.models["specialist"] == MODELS["specialist"]
    assert table.of_kind("alm") == [key for key in keys if key.startswith("alm")]
    if len(passes) > 1:
        expected_2 = [embedding_of(s, "alm2", (3,)) for _, s in expected]
        np.testing.assert_allclose(table.audio((3,), "alm2"), expected_2, atol=1e-6)


def test_missing_repeats_are_refused(small: Small) -> None:
    small.encode(BOTH)
    assert "without audio repeats 5,7 (it has 1,2)" in refusal(read_table(small.out.uri).audio, (1, 5, 7))


def test_a_table_without_segments_has_the_right_shapes(small: Small) -> None:
    silent = [row | {"segments": []} for row in small.rows]
    small.encode(BOTH, rows=[silent])
    table = read_table(small.out.uri)
    assert len(table.segments) == 0
    assert table.audio((1, 2)).shape == (0, 2, DIM)
    assert table.logits().shape == (0, len(THEIRS))
    assert {"recording_uri", "start_s", "emotion"} <= set(table.segments.column_names)


def test_a_part_without_segments_does_not_affect_the_others(small: Small) -> None:
    rows = [row if row["part"] else row | {"segments": []} for row in small.rows]
    for item in (item for row in rows for item in row["items"]):
        item["reason"] = None
    small.encode(BOTH, rows=[rows])
    assert len(read_table(small.out.uri).segments) == len(every_segment(rows))


def test_dropped_recordings_are_left_out(small: Small) -> None:
    small.encode(BOTH)
    plan = small.out.read_json(PLAN)
    assert plan is not None
    increment = plan["increments"][0]
    more = increment | {
        "first_recording": 5,
        "recordings": 0,
        "bundles": 0,
        "items": 0,
        "parts": [],
        "dropped": 1,
    }
    small.out.write_json(PLAN, plan | {"increments": [increment, more]})
    small.out.write_table(plan_file(1, "dropped"), small.out.read_table(plan_file(0, "recordings"))[1:2])
    table = read_table(small.out.uri)
    expected = [segment for n, segment in every_segment(small.rows) if n != 1]
    assert table.segments["start_s"].to_pylist() == [segment["start_s"] for segment in expected]
    np.testing.assert_array_equal(table.logits(), [output_of(segment, "specialist") for segment in expected])


@pytest.mark.parametrize("missing", [PLAN, PASSES])
def test_a_folder_without_a_table_is_refused(small: Small, missing: str) -> None:
    small.encode(BOTH)
    assert "no embedding table there" in refusal(open_table, f"{small.out.uri}/nowhere")
    open_table(small.out.uri)
    path = Path(small.out.root) / missing
    path.write_text("[1]")  # another program's
    assert "no embedding table there" in refusal(open_table, small.out.uri)
    path.unlink()
    assert "no embedding table there" in refusal(open_table, small.out.uri)


def test_a_deleted_table_is_refused(small: Small) -> None:
    drop_passes(small.encode(BOTH))
    assert "--keep-encoded no" in refusal(open_table, small.out.uri)


def test_an_incomplete_table_is_refused(small: Small) -> None:
    encoded = small.encode(*PASSES_OF_TWO)
    encoded.with_pass(replace(encoded.passes[1], complete=False))
    assert "is incomplete; run the same zsfuse embed again" in refusal(read_table, small.out.uri)
    table = open_table(small.out.uri)
    table.check_complete({"alm": "alm", "specialist": "specialist"})
    assert table.repeats("alm") == (1, 2)
    assert "incomplete" in refusal(table.check_complete, {"alm": "alm2"})


def test_a_table_of_an_unreadable_archive_is_refused(small: Small) -> None:
    write_plan(small.out, [row | {"probe_reason": "corrupt"} for row in planned_rows()])
    small.encode()
    assert "nothing is encoded there" in refusal(read_table, small.out.uri)


def test_a_table_that_does_not_match_its_record_is_refused(small: Small) -> None:
    encoded = small.encode(BOTH)
    record = small.out.read_json(PASSES)
    assert record is not None
    record["models"]["alm"]["dim"] += 1
    small.out.write_json(PASSES, record)
    assert "does not match" in refusal(read_table, small.out.uri)
    encoded.write()
    path = sorted(small.out.parquet_files("encoded"))[0]
    Path(path).write_bytes(b"no parquet")
    assert "does not match" in refusal(read_table, small.out.uri)


def test_models_of_a_table_are_found_by_name_or_revision(small: Small, monkeypatch) -> None:
    small.encode(*PASSES_OF_TWO, {"specialist2": Computed()})
    table = open_table(small.out.uri)
    monkeypatch.setattr("zsfuse_ray.archive.describe.revision_of", lambda spec: f"{spec.checkpoint[0]}2")
    monkeypatch.setattr("zsfuse_ray.archive.table.revision_of", lambda spec: f"{spec.checkpoint[0]}2")
    assert key_of("alm", OF_TABLE, table) == "alm"
    assert key_of("specialist", OF_TABLE, table) == "specialist"
    assert key_of("alm", "none", table) is None
    assert key_of("alm", "clap:untrained", table) == "alm"
    assert key_of("alm", "dual:another place", table) == "alm2"  # of the same revision
    assert key_of("specialist", "classifier:there", table) == "specialist2"  # by name
    assert key_of("specialist", "classifier:same weights", table) == "specialist2"
    message = refusal(key_of, "alm", "dual:other", table)
    assert "was encoded with --alm clap:untrained of revision None, dual:there of revision a2" in message
    assert message.endswith("not dual:other of revision o2; run embed with it first")


def test_a_table_without_a_model_of_a_kind(small: Small) -> None:
    small.encode({"specialist": Computed()})
    table = open_table(small.out.uri)
    assert key_of("alm", OF_TABLE, table) is None
    assert "was encoded without one; use --alm none" in refusal(key_of, "alm", "clap:untrained", table)
