from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.rows import ENCODED, SCORED
from zsfuse_ray.method.fusion import entropy, fuse, specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.zeroshot import posterior, softmax

LABELS = ("angry", "happy", "sad", "bored")
THEIRS = ("sad", "neutral", "anger", "joy")  # no boredom, and a label outside the set
DIM, REPEATS, SEGMENTS = 8, 2, 6


def unit(values: NDArray) -> NDArray[np.float32]:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


rng = np.random.default_rng(0)
TEXT = unit(rng.standard_normal((3, len(LABELS), DIM)))
EMBEDDINGS = unit(rng.standard_normal((SEGMENTS, REPEATS, DIM)))
LOGITS = rng.standard_normal((SEGMENTS, len(THEIRS))).astype(np.float32)
SCORER = Scorer(
    labels=LABELS,
    text=TEXT,
    scale=20.0,
    audio_repeats=REPEATS,
    specialist_labels=THEIRS,
    ensemble="embedding",
    temperature=2.0,
    fusion="linear",
    weight=0.3,
)


def encoded(embeddings: NDArray | None, logits: NDArray | None, n: int = SEGMENTS) -> pa.Table:
    """A bundle of two items, three segments each; a bundle without segments follows it."""
    items = [{"item_id": k, "recording_id": 7, "audio_s": 60.0} for k in (4, 5)]
    segments = [
        {"item_id": 4 if k < 3 else 5, "start_s": 10.0 * k, "end_s": 10.0 * k + 3, "speech_prob": 0.9}
        | {"samples": 24_000, "sample_rate": 8000}
        for k in range(n)
    ]
    row = {"bundle_id": 2, "items": items, "segments": segments, "encoder_inputs": 9}
    row |= {"embeddings": None if embeddings is None else embeddings.tobytes()}
    row |= {"logits": None if logits is None else logits.tobytes()}
    quiet = {"bundle_id": 3, "items": items, "segments": [], "encoder_inputs": 0}
    empty = {name: None if row[name] is None else b"" for name in ("embeddings", "logits")}
    return pa.Table.from_pylist([row, quiet | empty], schema=ENCODED)


def array(segments: list[dict], name: str) -> NDArray[np.float32]:
    return np.array([segment[name] for segment in segments], np.float32)


@pytest.mark.parametrize("ensemble", ["embedding", "logit", "probability"])
@pytest.mark.parametrize("fusion", ["linear", "loglinear"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_scores_are_those_of_the_method(ensemble, fusion, weight: float) -> None:
    scorer = replace(SCORER, ensemble=ensemble, fusion=fusion, weight=weight)
    scored = scorer(encoded(EMBEDDINGS, LOGITS))
    assert scored.schema == SCORED
    row, quiet = scored.to_pylist()
    p = posterior(EMBEDDINGS, TEXT, 20.0, ensemble, 2.0)
    mapping = map_labels(THEIRS, LABELS)
    q = specialist_on_labels(softmax(LOGITS), mapping)
    fused = fuse(q, p, weight, fusion, np.array([True, True, True, False]))
    segments = row["segments"]
    for name, expected in (("p", fused), ("specialist", q), ("alm", p)):
        np.testing.assert_allclose(array(segments, name), expected, rtol=1e-6, atol=1e-7)
    assert [s["label"] for s in segments] == [LABELS[k] for k in fused.argmax(axis=1)]
    np.testing.assert_allclose(array(segments, "confidence"), fused.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(array(segments, "entropy"), entropy(fused), rtol=1e-6)
    assert [s["start_s"] for s in segments] == [10.0 * k for k in range(SEGMENTS)]
    assert (row["bundle_id"], row["encoder_inputs"], quiet["segments"]) == (2, 9, [])
    assert all(item["reason"] is None for item in row["items"] + quiet["items"])


def test_the_alm_alone() -> None:
    scorer = replace(SCORER, specialist_labels=None)
    row = scorer(encoded(EMBEDDINGS, None)).to_pylist()[0]
    p = posterior(EMBEDDINGS, TEXT, 20.0, "embedding", 2.0)
    np.testing.assert_allclose(array(row["segments"], "p"), p, rtol=1e-6)
    np.testing.assert_array_equal(array(row["segments"], "p"), array(row["segments"], "alm"))
    assert {s["specialist"] for s in row["segments"]} == {None}
    assert scorer.known == ()


def test_the_specialist_alone() -> None:
    scorer = replace(SCORER, text=None)
    row = scorer(encoded(None, LOGITS)).to_pylist()[0]
    q = specialist_on_labels(softmax(LOGITS), map_labels(THEIRS, LABELS))
    np.testing.assert_allclose(array(row["segments"], "p"), q, rtol=1e-6)
    np.testing.assert_array_equal(array(row["segments"], "p"), array(row["segments"], "specialist"))
    assert {s["alm"] for s in row["segments"]} == {None}
    assert scorer.known == ("angry", "happy", "sad")


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", ["alm", "specialist"])
def test_what_is_not_finite_becomes_a_reject(model: str, value: float, weight: float) -> None:
    """Whatever share its model has: no NaN reaches a table, and the item says what happened."""
    embeddings, logits = EMBEDDINGS.copy(), LOGITS.copy()
    if model == "alm":
        embeddings[4, 1, 3] = value
    else:
        logits[4, 1] = value
    with np.errstate(invalid="ignore"):
        row = replace(SCORER, weight=weight)(encoded(embeddings, logits)).to_pylist()[0]
    assert [s["start_s"] for s in row["segments"]] == [0.0, 10.0, 20.0, 30.0, 50.0]
    for name in ("p", "specialist", "alm", "confidence", "entropy"):
        assert np.isfinite(array(row["segments"], name)).all()
    assert [item["reason"] for item in row["items"]] == [None, "not_finite"]
    assert [item["stage"] for item in row["items"]] == [None, "fuse"]
