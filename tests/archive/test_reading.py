"""Values read from synthetic encoded/ folders compared with those written."""

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.archive.encoded_folders import (
    BOTH,
    DIM,
    MODELS,
    REPEATS,
    Rows,
    Small,
    embedding_of,
    every_segment,
    output_of,
)
from zsfuse_ray.archive import reading as module
from zsfuse_ray.archive.packing import pack_values
from zsfuse_ray.archive.passes import Computed, Encoded
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.errors import InputError

SEVERAL = [{"alm": Computed((1, 2))}, {"alm": Computed((4, 3), (1, 2))}]


def read(small: Small, encoded: Encoded, wanted: dict) -> list[module.Rows]:
    return [rows for part in small.parts for rows in read_part(encoded, part, wanted, vectors=True)]


def check(small: Small, encoded: Encoded, wanted: dict, expected: Rows | None = None) -> list[dict]:
    """Read everything and compare segments and values with these rows; returns the items."""
    found = read(small, encoded, wanted)
    rows = [row for row in (expected or small.rows) if row["items"]]
    segments = [segment for row in rows for segment in row["segments"]]
    read_segments = [segment for one in found for segment in one.segments.to_pylist()]
    names = ("item_id", "start_s", "end_s", "speech_prob", "samples", "sample_rate")
    assert read_segments == [{name: segment[name] for name in names} for segment in segments]
    for key, repeats in wanted.items():
        if key.startswith("alm"):
            values = np.concatenate([one.embeddings[key] for one in found])
            own = [embedding_of(segment, key, repeats) for segment in segments]
            assert values.dtype == np.float32
            assert values.shape == (len(segments), len(repeats), DIM)
            np.testing.assert_allclose(values, np.array(own).reshape(values.shape), atol=1e-6)
            continue
        logits = np.concatenate([one.logits[key] for one in found])
        np.testing.assert_array_equal(logits, [output_of(segment, key) for segment in segments])
        if MODELS[key]["vector_dim"] is None:
            assert {one.vectors[key] is None for one in found} == {True}
        else:
            vectors = np.concatenate([one.vectors[key] for one in found])
            np.testing.assert_array_equal(vectors, [output_of(segment, key, 1) for segment in segments])
    return [item for one in found for item in one.items.to_pylist()]


def outcomes(rows: Rows) -> list[dict]:
    return [item for row in rows for item in row["items"]]


@pytest.mark.parametrize("per_file", [1, 2, 100])
def test_one_pass(small: Small, per_file: int) -> None:
    encoded = small.encode(BOTH, per_file=per_file)
    assert len(every_segment(small.rows)) > 5
    assert check(small, encoded, {"alm": (1, 2), "specialist": ()}) == outcomes(small.rows)
    assert check(small, encoded, {"alm": (2,)}) == outcomes(small.rows)
    assert check(small, encoded, {"alm": (2, 1)}) == outcomes(small.rows)
    assert check(small, encoded, {"specialist": ()}) == outcomes(small.rows)
    found = read(small, encoded, {"alm": (1,), "specialist": ()})
    assert sum(rows.encoder_inputs for rows in found) == sum(row["encoder_inputs"] for row in small.rows)


def test_only_the_bundles_of_the_part_are_read(small: Small) -> None:
    encoded = small.encode(BOTH)
    for part in small.parts:
        found = [item for rows in read_part(encoded, part, {"alm": (1,)}) for item in rows.items.to_pylist()]
        own = [row for row in small.rows if row["part"] == part.number]
        assert [item["item_id"] for item in found] == [item["item_id"] for item in outcomes(own)]
        assert all(part.first <= item["recording_id"] < part.end for item in found)
    assert list(read_part(encoded, small.parts[2], {"alm": (1,)})) == []


def test_bundles_are_read_in_pieces(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = small.encode(BOTH)
    assert len(read(small, encoded, {"alm": (1,)})) == 2  # one piece per part with bundles
    monkeypatch.setattr(module, "BUNDLES_AT_ONCE", 1)
    assert len(read(small, encoded, {"alm": (1,)})) == len(small.rows)
    check(small, encoded, {"alm": (1, 2), "specialist": ()})


def test_a_second_model_of_a_kind(small: Small) -> None:
    encoded = small.encode(BOTH, {"alm2": Computed((3,)), "specialist2": Computed()})
    check(small, encoded, {"alm": (1,), "alm2": (3,), "specialist2": (), "specialist": ()})
    check(small, encoded, {"specialist2": ()})
    check(small, encoded, {"alm2": (3,), "specialist": ()})


@pytest.mark.parametrize("repeats", [(1, 2, 3, 4), (4,), (3, 1), (2,)])
def test_more_repeats_in_a_second_pass(small: Small, repeats: tuple[int, ...]) -> None:
    """Repeats with the same input as a known one are read from the first pass."""
    check(small, small.encode(*SEVERAL), {"alm": repeats})


def test_known_repeats_can_be_two_passes_back(small: Small) -> None:
    passes = [{"alm": Computed((1,))}, {"alm": Computed((2,), (1,))}, {"alm": Computed((3, 4), (1, 2))}]
    for repeats in (REPEATS, (4,)):
        check(small, small.encode(*passes), {"alm": repeats})


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_passes_are_joined_whatever_their_files(small: Small, data: st.DataObject) -> None:
    """Ray writes the bundles of a pass in any order, several per file."""
    small.out.delete("encoded")
    rows = [data.draw(st.permutations(small.rows)) for _ in SEVERAL]
    encoded = small.encode(*SEVERAL, rows=rows, per_file=data.draw(st.integers(1, 4)))
    own = sorted(rows[0], key=lambda row: row["part"])
    assert check(small, encoded, {"alm": REPEATS}, own) == outcomes(own)


def test_a_pass_that_is_not_wanted_has_no_effect(small: Small) -> None:
    """An item that failed in a later pass with more repeats does not affect labellings without that pass."""
    broken = failing(small.rows)[1]
    encoded = small.encode(*SEVERAL, rows=[small.rows, broken])
    assert check(small, encoded, {"alm": (1, 2)}) == outcomes(small.rows)
    found = read(small, encoded, {"alm": (1, 2)})
    assert sum(rows.encoder_inputs for rows in found) == sum(row["encoder_inputs"] for row in small.rows)


def test_an_increment_without_any_pass_has_no_rows(small: Small) -> None:
    encoded = small.encode()
    assert read(small, encoded, {"alm": (1,)}) == []


def failing(rows: Rows) -> tuple[int, Rows]:
    """The first item with segments, and the rows as if it had failed to decode."""
    changed = copy.deepcopy(rows)
    row = next(row for row in changed if row["segments"])
    item_id = row["segments"][0]["item_id"]
    for item in row["items"]:
        if item["item_id"] == item_id:
            item |= {"audio_s": 0.0, "stage": "decode", "reason": "unreachable", "message": "no answer"}
    row["segments"] = [segment for segment in row["segments"] if segment["item_id"] != item_id]
    return item_id, changed


TWO = [{"alm": Computed((1,))}, {"specialist": Computed()}]


@pytest.mark.parametrize("which", [0, 1])
def test_an_item_that_failed_in_one_pass_is_a_failure(small: Small, which: int) -> None:
    item_id, changed = failing(small.rows)
    rows = [changed if n == which else small.rows for n in (0, 1)]
    encoded = small.encode(*TWO, rows=rows)
    items = check(small, encoded, {"alm": (1,), "specialist": ()}, changed)
    (item,) = [item for item in items if item["item_id"] == item_id]
    assert (item["stage"], item["reason"], item["message"]) == ("decode", "unreachable", "no answer")
    names = ("item_id", "reason")
    expected = [tuple(item[name] for name in names) for item in outcomes(changed)]
    assert [tuple(item[name] for name in names) for item in items] == expected


@pytest.mark.parametrize("which", [0, 1])
def test_a_segment_missing_in_one_pass_is_left_out(small: Small, which: int) -> None:
    """Its item is a failure if it is missing in a later pass."""
    changed = copy.deepcopy(small.rows)
    row = next(row for row in changed if len(row["segments"]) > 1)
    lost = row["segments"].pop(0)
    rows = [changed if n == which else small.rows for n in (0, 1)]
    items = check(small, small.encode(*TWO, rows=rows), {"alm": (1,), "specialist": ()}, changed)
    reasons = {item["item_id"]: item["reason"] for item in items}
    expected = {item["item_id"]: item["reason"] for item in outcomes(changed)}
    assert reasons == expected | ({lost["item_id"]: "missing"} if which else {})


def test_a_bundle_missing_in_one_pass_is_a_failure(small: Small) -> None:
    row = next(row for row in small.rows if row["segments"])
    rest = [other for other in small.rows if other is not row]
    without = [other if other is not row else row | {"segments": []} for other in small.rows]
    items = check(
        small, small.encode(*TWO, rows=[small.rows, rest]), {"alm": (1,), "specialist": ()}, without
    )
    found = {segment["item_id"] for segment in row["segments"]}
    assert {item["item_id"] for item in items if item["reason"] == "missing"} == found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["embedding", "logits", "vector"])
@pytest.mark.parametrize("passes", [[BOTH], TWO])
def test_values_that_are_not_finite_become_a_failure(small: Small, what: str, value: float, passes) -> None:
    """The segment is left out and its item has the reason, so tables contain no NaN."""
    row = next(row for row in small.rows if len(row["segments"]) > 1)
    broken = row["segments"][1]
    if what == "embedding":
        broken["values"]["alm"][1] = np.array([1, value, 0, 0, 0, 0], np.float32)
    else:
        broken["values"]["specialist"][what == "vector"][2] = value
    without = [
        other | {"segments": [s for s in other["segments"] if s is not broken]} for other in small.rows
    ]
    encoded = small.encode(*passes)
    items = check(small, encoded, {"alm": (1,), "specialist": ()}, without)
    failed = [(item["item_id"], item["stage"], item["reason"]) for item in items if item["stage"] == "encode"]
    assert failed == [(broken["item_id"], "encode", "not_finite")]
    other = {"specialist": ()} if what == "embedding" else {"alm": (1,)}
    assert check(small, encoded, other) == outcomes(small.rows)


def test_values_are_clipped_to_half_precision(small: Small) -> None:
    segment = every_segment(small.rows)[0][1]
    segment["values"]["specialist"][0][0] = 1e9
    found = read(small, small.encode(BOTH), {"specialist": ()})
    assert max(one.logits["specialist"].max(initial=0) for one in found) == 65504


HALF = np.float16


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("alm_inputs", np.array([0, 9], np.int8).tobytes()),
        ("alm_inputs", np.array([0, -100], np.int8).tobytes()),
        ("alm_inputs", b""),
        ("alm_inputs", None),
        ("alm_embeddings", None),
        ("alm_embeddings", np.zeros(DIM, HALF).tobytes()),
        ("alm_embeddings", b"odd"),
        ("specialist_logits", None),
        ("specialist_logits", np.zeros(3, HALF).tobytes()),
        ("specialist_logits", pack_values(np.zeros((40, 4), np.float32))),
        ("specialist_vectors", None),
        ("specialist_vectors", pack_values(np.zeros((40, 5), np.float32))),
    ],
)
@pytest.mark.parametrize("passes", [[BOTH], [{"specialist": Computed()}, {"alm": Computed((1, 2))}]])
def test_files_that_do_not_match_the_record_are_refused(small: Small, passes, column: str, value) -> None:
    encoded = small.encode(*passes)
    one = next(one for one in encoded.passes if column.partition("_")[0] in one.models)
    path = next(path for path in sorted(small.out.parquet_files(one.path)) if segments_in(small, path))
    name = str(Path(path).relative_to(small.out.root))
    table = small.out.read_table(name)
    place = table.column_names.index(column)
    values = pa.array([value], pa.large_binary())
    small.out.write_table(name, table.set_column(place, column, values))
    refused(small, encoded)
    small.out.write_table(name, table.drop_columns([column]))
    refused(small, encoded)
    small.out.write_bytes(name, b"no parquet")
    refused(small, encoded)


def segments_in(small: Small, path: str) -> int:
    table = small.out.read_table(str(Path(path).relative_to(small.out.root)))
    return sum(map(len, table["segments"]))


def refused(small: Small, encoded: Encoded) -> None:
    with pytest.raises(InputError, match=r"does not match .*encoded\.json") as caught:
        read(small, encoded, {"alm": (1, 2), "specialist": ()})
    assert "\n" not in str(caught.value)
