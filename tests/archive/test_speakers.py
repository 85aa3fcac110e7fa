"""Segments of several channels: their columns, groups, and a summary per channel of a recording."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, LABELS, Small, every_segment
from tests.archive.labelled_parts import expected_columns, label_all, task_of
from zsfuse_ray.archive.bundles import CONTEXT_S, TURNS, bundle_items
from zsfuse_ray.archive.layout import PASSES, SEGMENTS, SPEAKERS
from zsfuse_ray.archive.listing import VERSION, list_archive, own_columns
from zsfuse_ray.archive.normalise import groups_of
from zsfuse_ray.archive.passes import Encoded, read_passes
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.archive.schemas import SPAN
from zsfuse_ray.archive.speakers import who_columns
from zsfuse_ray.audio.rttm import TURN
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.method.labels import column


def split(small: Small) -> tuple[Small, Encoded]:
    """The small archive with every other segment on a second channel."""
    rows = [
        row | {"segments": [one | {"channel": n % 2} for n, one in enumerate(row["segments"])]}
        for row in small.rows
    ]
    encoded = small.encode(BOTH, rows=[rows])
    return replace(small, rows=rows), replace(encoded, config=encoded.config | {"channels": "split"})


def test_speakers_summarise_each_channel_of_a_recording(small: Small) -> None:
    archive, encoded = split(small)
    label_all(task_of(archive, encoded))
    segments = archive.out.read_table(SEGMENTS).to_pylist()
    expected = every_segment(archive.rows)
    assert [row["channel"] for row in segments] == [one["channel"] for _, one in expected]
    groups: dict[tuple, list[dict]] = {}
    for number, one in expected:
        groups.setdefault((number, one["channel"]), []).append(one | expected_columns(one))
    found = archive.out.read_table(SPEAKERS).to_pylist()
    assert [(row["recording_id"], row["channel"]) for row in found] == sorted(groups)
    assert len(found) > 2
    for row in found:
        own = groups[row["recording_id"], row["channel"]]
        lengths = [one["end_s"] - one["start_s"] for one in own]
        assert row["n_segments"] == len(own)
        assert row["speech_s"] == pytest.approx(sum(lengths))
        assert row["mean_confidence"] == pytest.approx(sum(one["confidence"] for one in own) / len(own))
        shares = {
            label: sum(s for s, one in zip(lengths, own, strict=True) if one["label"] == label) / sum(lengths)
            for label in LABELS
        }
        assert {label: row[f"share_{column(label)}"] for label in LABELS} == pytest.approx(shares)
        assert row["dominant_label"] == max(shares, key=lambda label: shares[label])


def test_a_mix_has_neither_channels_nor_speakers(small: Small) -> None:
    label_all(task_of(small, small.encode(BOTH)))
    assert "channel" not in small.out.read_table(SEGMENTS).column_names
    assert not small.out.exists(SPEAKERS)


def test_a_table_of_a_version_without_channels_is_a_mix(small: Small) -> None:
    encoded = small.encode(BOTH)
    record = small.out.read_json(PASSES)
    assert record is not None
    del record["config"]["channels"]
    small.out.write_json(PASSES, record)
    for path in small.out.parquet_files(encoded.passes[0].path):
        table = small.out.read_table(path.removeprefix(f"{small.out.root}/"))
        before = pa.list_(pa.struct([field for field in SPAN if field.name != "channel"]))
        spans = [
            [{name: one[name] for name in one if name != "channel"} for one in row]
            for row in table["segments"].to_pylist()
        ]
        place = table.column_names.index("segments")
        old = table.set_column(place, "segments", pa.array(spans, before))
        small.out.write_table(path.removeprefix(f"{small.out.root}/"), old)
    now = read_passes(small.out)
    assert now is not None
    assert now.config == encoded.config
    rows = [one for part in small.parts for one in read_part(now, part, {"alm": (1, 2), "specialist": ()})]
    assert sum(len(one.segments) for one in rows) == len(every_segment(small.rows))
    assert all("channel" not in one.segments.column_names for one in rows)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["agent, customer"] * 2, ["agent", "customer"]),
        (["agent", None], ["agent", None]),
        ([",customer", ""], [None, None]),
        (["a", "a"], ["a", None]),
    ],
)
def test_a_manifest_names_the_channels(names: list, expected: list) -> None:
    segments = pa.table({"channel": pa.array([0, 1], pa.int32())})
    found = who_columns(segments, pa.table({"channels": pa.array(names, pa.string())}))
    assert found["channel_name"].to_pylist() == expected


def test_a_number_of_channels_is_not_a_name() -> None:
    segments = pa.table({"channel": pa.array([0, 1], pa.int32())})
    assert list(who_columns(segments, pa.table({"channels": [2, 2]}))) == ["channel"]


def test_a_recording_whose_turns_change_has_changed(archive: Path, tmp_path: Path) -> None:
    turns = tmp_path / "turns.rttm"
    versions = []
    for start in (1, 1, 2):
        turns.write_text(f"SPEAKER b 1 {start} 1 <NA> <NA> x <NA> <NA>\n")
        table = list_archive(str(archive), speakers=str(turns))
        assert own_columns(table) == []
        versions.append(dict(zip(table["uri"].to_pylist(), table[VERSION].to_pylist(), strict=True)))
    assert versions[0] == versions[1]
    changed = {uri for uri in versions[0] if versions[0][uri] != versions[2][uri]}
    assert changed == {str(archive / "b.wav")}


def test_items_have_the_turns_around_them() -> None:
    rows = [{"start_s": float(t), "end_s": t + 2.0, "speaker": "x"} for t in range(0, 3000, 100)]
    columns = {"recording_id": [0], "uri": ["a"], "start_s": [50.0], "end_s": [None], "plan_part": [0]}
    columns |= {"probe_duration_s": [3000.0], "probe_exact": [True], "probe_reason": [None]}
    recordings = pa.table(columns | {TURNS: pa.array([rows], pa.list_(TURN))})
    (first, *_, last) = [item for one in bundle_items(recordings, 600.0) for item in one["items"]]
    assert [row["start_s"] for row in first["turns"]] == [100.0 * n for n in range(10)]
    assert [row["start_s"] for row in last["turns"]] == [100.0 * n for n in range(22, 30)]
    longest = Segmentation(max_segment_s=60.0, min_segment_s=30.0)
    assert max(longest.left_context_s, longest.right_context_s) < CONTEXT_S


def test_each_speaker_of_turns_is_normalised_within_the_recording() -> None:
    recordings = pa.table({"recording_id": [1, 1, 2, 2]})
    segments = pa.table({"speaker": ["a", None, "a", "b"]})
    assert groups_of(recordings, "speaker", segments) == [
        "recording 1 a",
        "recording 1",
        *("recording 2 a", "recording 2 b"),
    ]
    assert groups_of(recordings, "recording", segments) == [f"recording {n}" for n in (1, 1, 2, 2)]


def test_each_channel_is_normalised_by_itself() -> None:
    recordings = pa.table({"recording_id": [1, 1, 2, 2], "speaker": ["a", "a", None, None]})
    segments = pa.table({"channel": [0, 1, 0, 1]})
    own = ["recording 1", "recording 1 channel 1", "recording 2", "recording 2 channel 1"]
    assert groups_of(recordings, "recording", segments) == own
    assert groups_of(recordings, "speaker", segments) == ["speaker a", *own[1:]]
