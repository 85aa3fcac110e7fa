from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.archive.plan import BUNDLE_ITEMS, PROBED, bundle_items, plan_text, probe_recordings
from zsfuse_ray.archive.rows import BUNDLE

PLANNED = pa.schema(
    [
        ("recording_id", pa.int64()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("probe_duration_s", pa.float64()),
        ("probe_exact", pa.bool_()),
        ("probe_reason", pa.string()),
    ]
)
seconds = st.floats(0, 5000) | st.sampled_from([0.0, 20.0, 60.0, 300.0, 300.000001, 600.0, 1e-6])


@st.composite
def recordings(draw: st.DrawFn) -> pa.Table:
    """Planned recordings: whole files and slices, some unreadable, among them many short ones."""
    rows = []
    for recording_id in range(draw(st.integers(0, 30)) + draw(st.sampled_from([0, 0, 150]))):
        start = draw(st.none() | seconds) if recording_id < 30 else None
        row = {"recording_id": recording_id, "uri": f"{recording_id}.wav", "start_s": start, "end_s": None}
        if recording_id < 30 and draw(st.booleans()):
            row["end_s"] = (start or 0.0) + draw(seconds) + 1e-3
        row["probe_duration_s"] = draw(seconds) if recording_id < 30 else 2.0
        row["probe_exact"] = draw(st.booleans())
        row["probe_reason"] = draw(st.sampled_from([None, None, None, "corrupt"]))
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PLANNED)


@settings(deadline=None, max_examples=50)
@given(recordings(), st.sampled_from([20.0, 60.0, 300.0]))
def test_items_tile_every_recording_once(table: pa.Table, item_s: float) -> None:
    bundles = pa.Table.from_pylist(list(bundle_items(table, item_s)), schema=BUNDLE).to_pylist()
    assert [bundle["bundle_id"] for bundle in bundles] == list(range(len(bundles)))
    items = [item for bundle in bundles for item in bundle["items"]]
    assert [item["item_id"] for item in items] == list(range(len(items)))
    of_recording: dict[int, list[dict]] = {}
    for item in items:
        of_recording.setdefault(item["recording_id"], []).append(item)
    playable = [row for row in table.to_pylist() if row["probe_reason"] is None]
    assert list(of_recording) == [row["recording_id"] for row in playable]
    for row in playable:
        own = of_recording[row["recording_id"]]
        begin = row["start_s"] or 0.0
        end = row["probe_duration_s"] if row["end_s"] is None else row["end_s"]
        if row["probe_exact"]:  # then a slice cannot reach beyond it
            end = min(end, row["probe_duration_s"])
        assert own[0]["start_s"] == 0.0
        assert all(earlier["end_s"] == later["start_s"] for earlier, later in pairwise(own))
        assert own[-1]["end_s"] == pytest.approx(max(end - begin, 0.0), abs=1e-3)
        assert [item["last"] for item in own] == [False] * (len(own) - 1) + [True]
        assert all(item["start_s"] % 20 == 0 for item in own)
        for item in own:
            assert item["uri"] == row["uri"]
            assert (item["slice_start_s"], item["slice_end_s"]) == (begin, row["end_s"])
            assert item["exact"] == (row["probe_exact"] or row["end_s"] is not None)


@settings(deadline=None, max_examples=50)
@given(recordings(), st.sampled_from([20.0, 60.0, 300.0]))
def test_bundles_are_as_full_as_they_may_be(table: pa.Table, item_s: float) -> None:
    bundles = [bundle["items"] for bundle in bundle_items(table, item_s)]
    lengths = [[item["end_s"] - item["start_s"] for item in items] for items in bundles]
    for of_bundle in lengths:
        assert 1 <= len(of_bundle) <= BUNDLE_ITEMS
        assert max(of_bundle) <= item_s + 1e-3
        assert sum(of_bundle) <= item_s + 1e-3 or len(of_bundle) == 1
    for of_bundle, of_next in pairwise(lengths):
        assert sum(of_bundle) + of_next[0] > item_s or len(of_bundle) == BUNDLE_ITEMS


def test_unreadable_recordings_have_no_items() -> None:
    row = {"recording_id": 0, "uri": "a", "probe_reason": "corrupt", "probe_exact": False}
    assert list(bundle_items(pa.Table.from_pylist([row], schema=PLANNED), 300.0)) == []


def test_three_hours_make_items_of_five_minutes() -> None:
    row = {"recording_id": 7, "uri": "a", "probe_duration_s": 3 * 3600 + 1.5, "probe_exact": True}
    bundles = list(bundle_items(pa.Table.from_pylist([row], schema=PLANNED), 300.0))
    spans = [(item["start_s"], item["end_s"]) for bundle in bundles for item in bundle["items"]]
    assert spans == [(300.0 * k, 300.0 * (k + 1)) for k in range(36)] + [(10800.0, 10801.5)]


def test_probing_says_what_each_file_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "gööd 1.wav", np.zeros((12_000, 2), np.int16), 8000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.dat").write_text("To whom it may concern, " * 100)
    (tmp_path / "notes.MP3").write_text("To whom it may concern, " * 100)
    names = ["gööd 1.wav", "empty.wav", "notes.dat", "notes.MP3", "gone.wav"]
    batch = pa.table({"recording_id": range(5, 10), "uri": [str(tmp_path / name) for name in names]})
    probed = probe_recordings(batch)
    assert probed.schema == PROBED
    good, empty, text, named_audio, gone = probed.to_pylist()
    assert good == {
        "recording_id": 5,
        "duration_s": 1.5,
        "sample_rate": 8000,
        "channels": 2,
        "container": "wav",
        "codec": "pcm_s16le",
        "exact": True,
        "reason": None,
        "message": None,
    }
    assert [row["recording_id"] for row in (empty, text, named_audio, gone)] == [6, 7, 8, 9]
    assert empty["reason"] in ("empty", "not_audio")
    assert text["reason"] == "not_a_recording"  # no failure: nobody said it was audio
    assert named_audio["reason"] == "not_audio"
    assert gone["reason"] == "not_found"
    for row, name in zip(probed.to_pylist()[1:], names[1:], strict=True):
        assert row["duration_s"] is None
        assert name in row["message"]
        assert "\n" not in row["message"]


def test_the_plan_in_words() -> None:
    made = {
        "hours": 1.256,
        "playable": 1999,
        "recordings": 2000,
        "items": 3000,
        "bundles": 40,
        "containers": {"mp3": 1990, "wav": 9},
    }
    first, second, third = plan_text(made, "out", 100.0).splitlines()
    assert first == "1.26 h of audio in 1,999 of 2,000 recordings (1990 mp3, 9 wav)"
    assert second == "3,000 items in 40 bundles; the plan is in out/plan"
    assert third.startswith("about 2 min to decode")
    assert len(plan_text(made, "out", None).splitlines()) == 2
