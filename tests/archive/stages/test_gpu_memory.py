"""Batches and segments that do not fit into the memory of a GPU."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.archive.stages.test_encode_stage import SPECIALIST, actor, three_items
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.schemas import DECODED
from zsfuse_ray.models.catalog import parse_spec


class Small:
    """A model on a GPU whose memory holds a batch of this many samples."""

    def __init__(self, model, samples: int) -> None:
        self._model, self._samples = model, samples

    def _fits(self, clips) -> None:
        if sum(map(len, clips)) > self._samples:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def classify(self, clips):
        self._fits(clips)
        return self._model.classify(clips)

    def embed_audio(self, clips):
        self._fits(clips)
        return self._model.embed_audio(clips)

    def __getattr__(self, name: str):
        return getattr(self._model, name)


class Counts:
    """In place of the actor that tallies."""

    def __init__(self) -> None:
        self.sums, self.add = {}, self

    def remote(self, counts) -> None:
        for name, count in counts.items():
            self.sums[name] = self.sums.get(name, 0) + count


def test_batches_that_do_not_fit_are_halved_and_counted() -> None:
    both, whole, counts = actor(), actor()(three_items()).to_pylist()[0], Counts()
    both.tally = counts
    longest = max(segment["samples"] for segment in whole["segments"])
    both.models["specialist"] = Small(both.models["specialist"], longest)  # any clip, but no two with it
    row = both(three_items()).to_pylist()[0]
    assert [item["reason"] for item in row["items"]] == [None, None, None]
    values, expected = (np.frombuffer(one["specialist_logits"], np.float16) for one in (row, whole))
    np.testing.assert_allclose(values, expected, atol=2e-3)
    assert counts.sums == {"halved_batches": 1, "planned_s": 9.0, "audio_s": 9.0}
    both(three_items())
    assert counts.sums["halved_batches"] == 2


def test_a_pool_that_is_not_the_last_counts_only_its_batches() -> None:
    first, counts = actor("alm", last=False), Counts()
    first.tally = counts
    first.models["alm"] = Small(first.models["alm"], int(10.5 * first.models["alm"].sample_rate))
    first(three_items())
    assert set(counts.sums) == {"halved_batches"}


@pytest.mark.parametrize("key", ["alm", "specialist"])
@pytest.mark.parametrize("known", [(), (2,)])
def test_a_segment_that_does_not_fit_alone_is_the_only_one_lost(key: str, known: tuple[int, ...]) -> None:
    """An item of three segments, of which the GPU's memory cannot hold the longest."""
    table = three_items().to_pylist()[0]
    for segment in table["segments"]:
        segment["item_id"] = 10
    table["items"] = table["items"][:1]
    one_item = pa.Table.from_pylist([table], schema=DECODED)
    clap = ToEncode(parse_spec("dual:untrained", "alm"), (1,), known)
    both = actor(models={"alm": clap, "specialist": ToEncode(SPECIALIST)})
    expected = both(one_item).to_pylist()[0]
    rate = both.models[key].sample_rate
    second = table["segments"][1]["samples"] * rate // 16_000
    both.models[key] = Small(both.models[key], second - 1)
    row = both(one_item).to_pylist()[0]
    assert [item["reason"] for item in row["items"]] == ["out_of_memory"]
    assert row["items"][0]["message"].startswith("1 of 3 segments do not fit")
    values = np.frombuffer(row["specialist_logits"], np.float16).reshape(3, -1)
    assert np.isnan(values).any(axis=1).tolist() == [False, True, False]  # all outputs of a segment, or none
    wanted = np.frombuffer(expected["specialist_logits"], np.float16).reshape(3, -1)
    np.testing.assert_allclose(values[[0, 2]], wanted[[0, 2]], atol=2e-3)


def test_an_item_without_any_segment_that_fits_is_rejected() -> None:
    both = actor()
    both.models["specialist"] = Small(both.models["specialist"], 2000)

    def check() -> None:
        """A second of noise would not fit either, which stops a run."""

    both._check = check
    row = both(three_items()).to_pylist()[0]
    assert [item["reason"] for item in row["items"]] == ["out_of_memory"] * 3
