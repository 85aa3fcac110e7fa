from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zsfuse_ray.models.batching import make_batches, run_batched

LENGTHS = st.lists(st.integers(1, 50), max_size=40)


@given(LENGTHS, st.integers(1, 200), st.booleans())
def test_batches_contain_every_index_once_within_the_budget(lengths, max_samples, same_length):
    batches = make_batches(lengths, max_samples, same_length)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[i] for i in batch]
        assert len(batch) == 1 or max(own) * len(batch) <= max_samples
        assert not same_length or len(set(own)) == 1


@given(LENGTHS, st.integers(1, 200))
def test_neighbouring_batches_cannot_be_merged(lengths, max_samples):
    batches = make_batches(lengths, max_samples)
    for one, two in pairwise(batches):
        longest = max(lengths[i] for i in one)
        assert longest * (len(one) + 1) > max_samples
        assert longest >= lengths[two[0]]


def test_similar_lengths_share_a_batch():
    assert make_batches([10, 1, 10, 1], 20) == [[0, 2], [1, 3]]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 100), st.integers(1, 5))
def test_rows_keep_their_order_after_out_of_memory(lengths, max_samples, fits):
    """fits: number of items that fit into the fake GPU's memory."""

    def encode(items: list[int]) -> torch.Tensor:
        if len(items) > fits:
            raise torch.cuda.OutOfMemoryError("full")
        return torch.tensor(items)[:, None] * 2.0

    items = list(range(len(lengths)))
    assert run_batched(encode, items, lengths, max_samples)[:, 0].tolist() == [2.0 * i for i in items]


def test_item_too_large_for_the_gpu_raises():
    def encode(items: list[int]) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("full")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        run_batched(encode, [0, 1], [5, 5], 100)


def test_encoder_with_missing_rows_raises():
    with pytest.raises(ValueError, match="zip"):
        run_batched(lambda items: torch.zeros(1, 2), [0, 1], [5, 5], 100)
