"""The summaries against loops in plain Python over the same rows."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from small_run import COLUMNS, ITEM_S, LABELS, PARTS, SECRET, every_segment, planned_rows

from zsfuse_ray.archive.plan import bundle_items
from zsfuse_ray.archive.rows import BUNDLE, SCORED
from zsfuse_ray.archive.summaries import (
    ARC_PARTS,
    counts,
    effective_repetition,
    items_done,
    list_rejects,
    summarise_recordings,
)
from zsfuse_ray.archive.tables import flatten, planned_recordings
from zsfuse_ray.method.amplify import effect
from zsfuse_ray.runs.folder import BUNDLES, ITEMS, RECORDINGS_PLANNED, SEGMENTS, Output


def summaries(out: Output) -> tuple[pa.Table, pa.Table]:
    """Recordings and rejects, in the way compact() makes them."""
    planned, done = planned_recordings(out), items_done(out)
    recordings = summarise_recordings(out, planned, done, LABELS)
    return recordings, list_rejects(out, planned, done, recordings)


def count(out: Output) -> dict:
    return counts(out, planned_recordings(out), items_done(out), *summaries(out), LABELS)


def test_recordings_sum_up_their_segments(out: Output, rows: list[dict]) -> None:
    recordings, _ = summaries(out)
    assert recordings["recording_id"].to_pylist() == [0, 1, 2, 3]  # 4 could not be opened
    for row, source in zip(recordings.to_pylist(), planned_rows(), strict=False):
        own = [s for recording_id, s in every_segment(rows) if recording_id == row["recording_id"]]
        items = [i for r in rows for i in r["items"] if i["recording_id"] == row["recording_id"]]
        duration = sum(item["audio_s"] for item in items)
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
        assert row["mean_confidence"] == pytest.approx(sum(confidences) / max(1, len(own)), rel=1e-6)
        assert (row["emotion"], row["label"]) == (source["emotion"], source["label"])
    assert recordings["n_segments"].to_pylist()[2:] == [0, 0]


def test_the_share_of_labels_weighs_recordings_by_speech(out: Output, rows: list[dict]) -> None:
    shares = count(out)["label_shares"]
    spoken = dict.fromkeys(LABELS, 0.0)
    for _, segment in every_segment(rows):
        spoken[segment["label"]] += segment["end_s"] - segment["start_s"]
    total = sum(spoken.values())
    assert shares == {name: pytest.approx(seconds / total) for name, seconds in spoken.items()}


def test_every_reject_has_its_stage_and_reason(out: Output) -> None:
    out.delete(f"{ITEMS}/0.parquet")  # as if its worker had died each time
    out.delete(f"{SEGMENTS}/0.parquet")
    _, rejects = summaries(out)
    lost = out.read_table(BUNDLES)["items"][0].as_py()
    found = [
        (r["recording_id"], r["item_id"], r["stage"], r["reason"], r["message"]) for r in rejects.to_pylist()
    ]
    in_lost = {item["recording_id"] for item in lost}
    failed_item = next(
        item["item_id"]
        for bundle in out.read_table(BUNDLES)["items"].to_pylist()
        for item in bundle
        if item["recording_id"] == 3
    )
    assert 3 not in in_lost
    assert (4, None, "probe", "corrupt", "it broke") in found
    assert (3, failed_item, "decode", "corrupt", "no frame") in found
    assert (2, None, "segment", "no_speech", "no speech was found in it") in found
    for item in lost:
        assert [f[2:4] for f in found if f[1] == item["item_id"]] == [("run", "lost")]
    assert len(found) == 3 + len(lost)


def test_what_was_lost_is_not_called_silent(out: Output) -> None:
    """A recording none of whose items were written has no segments, but nobody listened to it."""
    bundles = out.read_table(BUNDLES).to_pylist()
    for n, bundle in enumerate(bundles):
        if any(item["recording_id"] == 1 for item in bundle["items"]):
            out.delete(f"{ITEMS}/{n}.parquet")
            out.delete(f"{SEGMENTS}/{n}.parquet")
    reasons = [row["reason"] for row in summaries(out)[1].to_pylist() if row["recording_id"] == 1]
    assert set(reasons) == {"lost"}


def test_the_counts_of_a_run(out: Output, rows: list[dict]) -> None:
    counted = count(out)
    items = [item for row in rows for item in row["items"]]
    segments = [segment for row in rows for segment in row["segments"]]
    speech_s = sum(segment["end_s"] - segment["start_s"] for segment in segments)
    del counted["label_shares"]
    assert counted == {
        "recordings": 5,
        "unreadable": 1,
        "items": len(items),
        "segments": len(segments),
        "audio_hours": pytest.approx(sum(item["audio_s"] for item in items) / 3600),
        "speech_hours": pytest.approx(speech_s / 3600),
        "rejects": {"corrupt": 2, "no_speech": 1},
        "failures": 2,  # silence is none
        "encoder_inputs": sum(row["encoder_inputs"] for row in rows),
    }
    json.dumps(counted)  # NumPy's numbers would not go into run.json


def test_no_credentials_reach_a_table(out: Output) -> None:
    for table in (*summaries(out), out.read_table(SEGMENTS)):
        text = json.dumps(table.to_pylist())
        assert SECRET not in text
        assert "host/0.wav" in text or "host/4.wav" in text


def test_a_run_that_wrote_nothing_has_empty_tables(tmp_path: Path, planned: pa.Table) -> None:
    out = Output.open(str(tmp_path))
    out.write_table(RECORDINGS_PLANNED, planned)
    out.write_table(BUNDLES, pa.Table.from_pylist(list(bundle_items(planned, ITEM_S)), schema=BUNDLE))
    empty = flatten(SCORED.empty_table(), planned_recordings(out), LABELS, PARTS)
    out.write_table(f"{SEGMENTS}/segments.parquet", empty)
    recordings, rejects = summaries(out)
    assert recordings["n_segments"].to_pylist() == [0, 0, 0, 0]
    assert set(recordings["dominant_label"].to_pylist()) == {None}
    assert Counter(rejects["reason"].to_pylist())["lost"] == len(
        [item for bundle in bundle_items(planned, ITEM_S) for item in bundle["items"]]
    )
    assert count(out)["audio_hours"] == count(out)["encoder_inputs"] == 0
    assert effective_repetition(out, (1, 2), 48000, 480_000, "repeat_pad", False) == {"1": {}, "2": {}}


@pytest.mark.parametrize("window", [None, 80_000, 480_000])
@pytest.mark.parametrize("fill", ["repeat_pad", "circular", "none"])
def test_effective_repetition_counts_every_segment(out: Output, rows: list[dict], window, fill) -> None:
    counts = effective_repetition(out, (1, 2, 4), 48_000, window, fill, False)
    for a in (1, 2, 4):
        expected: Counter[str] = Counter()
        for _, segment in every_segment(rows):
            length = segment["samples"] * 6  # 8 kHz → 48 kHz
            expected[effect(min(length, window or length), a, window, fill)] += 1
        assert {name: count for name, count in counts[str(a)].items() if count} == expected
