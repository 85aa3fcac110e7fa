"""Items, bundles and parts compared with plain loops."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.archive import bundles as module
from zsfuse_ray.archive.bundles import BUNDLE_ITEMS, bundle_items, cut_parts
from zsfuse_ray.archive.schemas import BUNDLE

PLANNED = pa.schema(
    [
        ("recording_id", pa.int64()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("probe_duration_s", pa.float64()),
        ("probe_exact", pa.bool_()),
        ("probe_reason", pa.string()),
        ("plan_part", pa.int64()),
    ]
)
seconds = st.floats(0, 5000) | st.sampled_from([0.0, 20.0, 60.0, 300.0, 300.000001, 600.0, 1e-6])


@st.composite
def recordings(draw: st.DrawFn) -> pa.Table:
    """Planned recordings in parts: whole files and slices, some unreadable, many of them short."""
    rows, part = [], 3
    for recording_id in range(draw(st.integers(0, 30)) + draw(st.sampled_from([0, 0, 150]))):
        start = draw(st.none() | seconds) if recording_id < 30 else None
        row = {"recording_id": recording_id, "uri": f"{recording_id}.wav", "start_s": start, "end_s": None}
        if recording_id < 30 and draw(st.booleans()):
            row["end_s"] = (start or 0.0) + draw(seconds) + 1e-3
        row["probe_duration_s"] = draw(seconds) if recording_id < 30 else 2.0
        row["probe_exact"] = draw(st.booleans())
        row["probe_reason"] = draw(st.sampled_from([None, None, None, "corrupt"]))
        row["plan_part"] = part = part + draw(st.sampled_from([0, 0, 0, 1]))
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
        if row["probe_exact"]:  # then a slice cannot extend beyond it
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
def test_bundles_are_filled_to_their_limits(table: pa.Table, item_s: float) -> None:
    bundles = list(bundle_items(table, item_s))
    lengths = [[item["end_s"] - item["start_s"] for item in bundle["items"]] for bundle in bundles]
    for of_bundle in lengths:
        assert 1 <= len(of_bundle) <= BUNDLE_ITEMS
        assert max(of_bundle) <= item_s + 1e-3
        assert sum(of_bundle) <= item_s + 1e-3 or len(of_bundle) == 1
    for (of_bundle, of_next), (bundle, after) in zip(pairwise(lengths), pairwise(bundles), strict=True):
        full = sum(of_bundle) + of_next[0] > item_s or len(of_bundle) == BUNDLE_ITEMS
        assert full or bundle["part"] != after["part"]


@settings(deadline=None, max_examples=50)
@given(recordings(), st.integers(0, 10**12), st.integers(0, 10**12))
def test_ids_start_at_the_given_offsets(table: pa.Table, first_bundle: int, first_item: int) -> None:
    plain = list(bundle_items(table, 60.0))
    moved = list(bundle_items(table, 60.0, first_bundle, first_item))
    for bundle in moved:
        bundle["bundle_id"] -= first_bundle
        for item in bundle["items"]:
            item["item_id"] -= first_item
    assert moved == plain


@settings(deadline=None, max_examples=50)
@given(recordings())
def test_no_bundle_spans_two_parts(table: pa.Table) -> None:
    part_of = dict(zip(table["recording_id"].to_pylist(), table["plan_part"].to_pylist(), strict=True))
    for bundle in bundle_items(table, 60.0):
        assert {part_of[item["recording_id"]] for item in bundle["items"]} == {bundle["part"]}


@settings(deadline=None, max_examples=100)
@given(recordings(), st.sampled_from([30.0, 700.0, 6000.0]), st.integers(1, 40))
def test_parts_are_ranges_filled_to_their_limits(table: pa.Table, most_s: float, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_S", most_s)
        patch.setattr(module, "PART_RECORDINGS", most)
        parts = cut_parts(table.drop_columns(["plan_part"])).tolist()
    assert len(parts) == len(table)
    lengths: dict[int, list[float]] = {}
    for row, part in zip(table.to_pylist(), parts, strict=True):
        lengths.setdefault(part, []).append(0.0)
        if row["probe_reason"] is None:
            begin = row["start_s"] or 0.0
            end = row["probe_duration_s"] if row["end_s"] is None else row["end_s"]
            if row["probe_exact"]:
                end = min(end, row["probe_duration_s"])
            lengths[part][-1] = max(0.0, end - begin)
    assert parts == sorted(parts)
    assert list(lengths) == list(range(len(lengths)))
    for own in lengths.values():
        assert len(own) <= most
        assert sum(own) <= most_s + 1e-6 or len(own) == 1
    for (_, own), (_, after) in pairwise(lengths.items()):
        assert len(own) == most or sum(own) + after[0] > most_s - 1e-6


def test_unreadable_recordings_have_no_items() -> None:
    row = {"recording_id": 0, "uri": "a", "probe_reason": "corrupt", "probe_exact": False}
    row |= {"plan_part": 0}
    assert list(bundle_items(pa.Table.from_pylist([row], schema=PLANNED), 300.0)) == []


def test_three_hours_are_cut_into_items_of_five_minutes() -> None:
    row = {"recording_id": 7, "uri": "a", "probe_duration_s": 3 * 3600 + 1.5, "probe_exact": True}
    row |= {"plan_part": 0}
    bundles = list(bundle_items(pa.Table.from_pylist([row], schema=PLANNED), 300.0))
    spans = [(item["start_s"], item["end_s"]) for bundle in bundles for item in bundle["items"]]
    assert spans == [(300.0 * k, 300.0 * (k + 1)) for k in range(36)] + [(10800.0, 10801.5)]
