import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zsfuse_ray.archive.packing import (
    normalised,
    pack_embeddings,
    pack_values,
    to_half,
    unpack_embeddings,
    unpack_values,
)

# Among few values many rows are equal; some are beyond float16, some not finite.
numbers = st.sampled_from([0.0, 1.0, -2.5, 2.0**-30, 7e4, -(2.0**100), np.nan, np.inf, -np.inf])
shapes = st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 3))
embeddings = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=numbers))


def column(*values: bytes | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value], pa.large_binary()) for value in values], pa.large_binary())


def half(value: float) -> float:
    """The expected stored value: the nearest float16, clipped to its range, NaN if not finite."""
    if not np.isfinite(value):
        return np.nan
    return float(np.float16(min(max(value, -65504.0), 65504.0)))


def same_bits(row: np.ndarray, other: np.ndarray) -> bool:
    pairs = zip(row.tolist(), other.tolist(), strict=True)
    return all(a == b or (a != a and b != b) for a, b in pairs)


@given(embeddings)
def test_values_in_half_precision(values: np.ndarray) -> None:
    expected = [half(value) for value in values.ravel().tolist()]
    np.testing.assert_array_equal(to_half(values).ravel().astype(float), expected)


@given(embeddings)
def test_each_distinct_embedding_is_stored_once(values: np.ndarray) -> None:
    n, repeats, dim = values.shape
    of_embeddings, of_inputs = pack_embeddings(values)
    distinct, places = unpack_embeddings(column(of_embeddings), column(of_inputs), dim, repeats)
    assert places.shape == (n, repeats)
    np.testing.assert_array_equal(distinct[places], to_half(values))
    first: list[np.ndarray] = []
    for i in range(n):
        own: list[np.ndarray] = []
        for a in range(repeats):
            if not any(same_bits(values[i, a], one) for one in own):
                own.append(values[i, a])
        first += own
    assert len(distinct) == len(first)


@given(embeddings, embeddings)
def test_bundles_are_unpacked_together(first: np.ndarray, second: np.ndarray) -> None:
    second = np.resize(second, (len(second), *first.shape[1:]))
    packed = [pack_embeddings(values) for values in (first, second)]
    columns = (column(*(row[i] for row in packed)) for i in (0, 1))
    distinct, places = unpack_embeddings(*columns, first.shape[2], first.shape[1])
    np.testing.assert_array_equal(distinct[places], to_half(np.concatenate([first, second])))


@given(embeddings, st.data())
def test_known_embeddings_are_referenced_and_not_stored(values: np.ndarray, data: st.DataObject) -> None:
    n, repeats, dim = values.shape
    places = st.none() | st.integers(0, 63)
    row = st.lists(places, min_size=repeats, max_size=repeats)
    known = data.draw(st.lists(row, min_size=n, max_size=n))
    of_embeddings, of_inputs = pack_embeddings(values, known)
    distinct, inputs = unpack_embeddings(column(of_embeddings), column(of_inputs), dim, repeats)
    for i in range(n):
        for a in range(repeats):
            place = known[i][a]
            if place is None:
                np.testing.assert_array_equal(distinct[inputs[i, a]], to_half(values[i, a]))
            else:
                assert inputs[i, a] == -1 - place
    assert set(inputs[inputs >= 0].tolist()) == set(range(len(distinct)))


@pytest.mark.parametrize(
    ("of_embeddings", "of_inputs"),
    [
        (np.zeros((3, 2), np.float16), np.zeros((1, 2), np.int8)),  # more than are used
        (np.zeros((1, 2), np.float16), np.array([[0, 1]], np.int8)),  # fewer
        (np.zeros(3, np.float16), np.array([[0, 1]], np.int8)),  # half a row
        (np.zeros((2, 2), np.float16), np.array([0, 1, 0], np.int8)),  # inputs of half a segment
    ],
)
def test_inconsistent_columns_are_refused(of_embeddings, of_inputs) -> None:
    with pytest.raises(ValueError, match=r"embeddings|values"):
        unpack_embeddings(column(of_embeddings.tobytes()), column(of_inputs.tobytes()), 2, 2)


@given(
    st.tuples(st.integers(0, 5), st.integers(1, 4)).flatmap(lambda s: arrays(np.float32, s, elements=numbers))
)
def test_logits_and_vectors_round_trip_in_float16(values: np.ndarray) -> None:
    found = unpack_values(column(pack_values(values), b"", None), values.shape[1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, to_half(values).astype(np.float32))


def test_missing_vectors_are_null() -> None:
    assert pack_values(None) is None


def test_values_that_do_not_fill_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 values, not a multiple of 2"):
        unpack_values(column(np.zeros(5, np.float16).tobytes()), 2)


def test_embeddings_are_normalised() -> None:
    values = np.random.default_rng(0).standard_normal((4, 3, 50)).astype(np.float16)
    found = normalised(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(
        found, values / np.linalg.norm(values.astype(float), axis=-1, keepdims=True), atol=1e-6
    )
    assert not normalised(np.zeros((1, 3), np.float16)).any()
