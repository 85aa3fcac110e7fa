"""Counts and their sums. Summaries of a part are tested with its tables."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.archive.encoded_folders import Small, every_segment
from zsfuse_ray.archive.schemas import SPAN, segment_seed
from zsfuse_ray.archive.summaries import Repetition, confidence_counts, median_percent, run_counts, summed
from zsfuse_ray.method.amplify import effect

RATE = 48_000
places = st.dictionaries(st.sampled_from("abc"), st.integers(0, 99), max_size=3)
counts = st.fixed_dictionaries(
    {
        "n": st.integers(0, 99),
        "deep": st.dictionaries(st.sampled_from("xy"), places, max_size=2),
        "flat": places,
    }
)


@given(st.lists(counts, max_size=5))
def test_sums_of_counts(parts: list[dict]) -> None:
    total = summed(parts)
    assert total.get("n", 0) == sum(part["n"] for part in parts)
    for name in {name for part in parts for name in part["flat"]}:
        assert total["flat"][name] == sum(part["flat"].get(name, 0) for part in parts)
    for outer in {name for part in parts for name in part["deep"]}:
        inner: Counter[str] = Counter()
        for part in parts:
            inner.update(part["deep"].get(outer, {}))
        assert total["deep"][outer] == dict(inner)
    assert summed([summed(parts[:2]), *parts[2:]]) == total


def test_counts_in_run_json() -> None:
    one = {"recordings": 3, "items": 7, "unreadable": 1, "segments": 5, "audio_s": 1800.0, "speech_s": 900.0}
    one |= {"failures": 2, "rejects": {"no_speech": 1, "corrupt": 2}, "encoder_inputs": 9}
    one |= {"audio_notes": {"scaled": 2}}
    one |= {"label_s": {"sad": 600.0, "angry": 300.0}, "effective_repetition": {"alm": {}}}
    one |= {"confidence": {"sad": {"40": 2, "71": 1, "100": 1}, "angry": {"33": 1}, "bored": {}}}
    found = run_counts(summed([one, one]))
    assert found == {
        **{
            "recordings": 6,
            "items": 14,
            "unreadable": 2,
            "segments": 10,
            "failures": 4,
            "encoder_inputs": 18,
        },
        **{"audio_hours": pytest.approx(1.0), "speech_hours": pytest.approx(0.5)},
        **{"rejects": {"corrupt": 4, "no_speech": 2}, "audio_notes": {"scaled": 4}},
        **{"label_shares": {"sad": pytest.approx(2 / 3), "angry": pytest.approx(1 / 3)}},
        **{"median_confidence": {"sad": 0.4, "angry": 0.33}},
    }
    assert list(found["rejects"]) == ["corrupt", "no_speech"]
    json.dumps(found)


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.integers(1, 4))
def test_the_median_over_parts_is_that_of_all_values(values: list[float], parts: int) -> None:
    """The lower of two middle values, in whole percent."""
    tables = [
        pa.table(
            {"label": pa.array(["sad"] * len(own), pa.string()), "confidence": pa.array(own, pa.float32())}
        )
        for own in (values[n::parts] for n in range(parts))
    ]
    total = summed(confidence_counts(table, ["sad", "angry"]) for table in tables)
    expected = sorted(np.rint(100 * np.array(values, np.float32)).astype(int))[(len(values) - 1) // 2]
    assert median_percent(total["sad"]) == expected
    assert median_percent(total["angry"]) is None


def test_shares_of_an_archive_without_speech_are_0() -> None:
    silent = dict.fromkeys(("recordings", "items", "unreadable", "segments", "audio_s", "failures"), 0)
    silent |= {"speech_s": 0.0, "rejects": {}, "label_s": {"sad": 0.0}, "encoder_inputs": 0}
    assert run_counts(silent)["label_shares"] == {"sad": 0.0}


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("window", [None, 80_000, 480_000])
@pytest.mark.parametrize("fill", ["repeat_pad", "circular", "none"])
def test_effective_repetition_counts_every_segment(small: Small, window, fill, seeded: bool) -> None:
    own = [segment for _, segment in every_segment(small.rows)]
    table = pa.Table.from_pylist(
        [{field.name: segment.get(field.name) for field in SPAN} for segment in own],
        schema=pa.schema(list(SPAN)),
    )
    found = Repetition((1, 2, 4), RATE, window, fill, seeded).effects(table)
    for a in (1, 2, 4):
        expected: Counter[str] = Counter()
        for segment in own:
            length = segment["samples"] * 6  # 8 kHz → 48 kHz
            seed = segment_seed(segment["item_id"], segment["start_s"]) if seeded else None
            expected[effect(min(length, window or length), a, window, fill, seed)] += 1
        assert {name: count for name, count in found[str(a)].items() if count} == expected


def test_effective_repetition_of_no_segments() -> None:
    found = Repetition((1, 2), RATE, None, "none", False).effects(pa.schema(list(SPAN)).empty_table())
    assert {a: sum(effects.values()) for a, effects in found.items()} == {"1": 0, "2": 0}
