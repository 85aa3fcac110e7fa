"""The segment columns match manual computation by softmax, cosine scores and the fusion's definition."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labelling import Labelling, label_columns, outside_share, posteriors

LABELS = ("angry", "happy", "sad", "very bored")
THEIRS = ("sad", "neutral", "anger", "joy")  # no boredom, and a label outside the set
MEANS = {0: 2, 1: 3, 2: 0}  # index in LABELS -> index in THEIRS
N, A, P, D = 5, 2, 3, 8


def unit(values: NDArray) -> NDArray[np.float32]:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


rng = np.random.default_rng(0)
TEXT = unit(rng.standard_normal((P, len(LABELS), D)))
EMBEDDINGS = unit(rng.standard_normal((N, A, D)))
LOGITS = rng.standard_normal((N, len(THEIRS))).astype(np.float32)
BOTH = Labelling(
    labels=LABELS,
    text=TEXT,
    scale=20.0,
    specialist_labels=THEIRS,
    ensemble="logit",
    temperature=2.0,
    fusion="linear",
    weight=0.3,
)


def exponentials(scores: list[float]) -> list[float]:
    shares = [float(np.exp(score - max(scores))) for score in scores]
    return [share / sum(shares) for share in shares]


def by_hand(row: int, weight: float, rule: str) -> tuple[list[float], list[float], list[float]]:
    """Return the fused, the specialist's and the ALM's posterior of one segment, element by element."""
    scores = [
        np.mean([20.0 * float(EMBEDDINGS[row, a] @ TEXT[t, c]) for a in range(A) for t in range(P)]) / 2.0
        for c in range(len(LABELS))
    ]
    alm = exponentials(scores)
    own = exponentials([float(x) for x in LOGITS[row]])
    mass = sum(own[s] for s in MEANS.values())
    specialist = [own[MEANS[c]] / mass if c in MEANS else 0.0 for c in range(len(LABELS))]
    left = 1 - alm[3]
    if rule == "linear":
        pool = [(1 - weight) * specialist[c] + weight * alm[c] / left for c in MEANS]
    else:
        pool = [specialist[c] ** (1 - weight) * (alm[c] / left) ** weight for c in MEANS]
    fused = [left * value / sum(pool) for value in pool] + [alm[3]]
    return fused, specialist, alm


@pytest.mark.parametrize("rule", ["linear", "loglinear"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_columns_match_manual_computation(weight: float, rule: str):
    labelling = replace(BOTH, weight=weight, fusion=rule)
    columns = label_columns(labelling, EMBEDDINGS, LOGITS, None)
    names = ["label", "confidence", "entropy", "p_angry", "p_happy", "p_sad", "p_very_bored"]
    names += ["specialist_angry", "specialist_happy", "specialist_sad"]
    names += ["alm_angry", "alm_happy", "alm_sad", "alm_very_bored"]
    assert list(columns) == names == list(labelling.column_names)
    for row in range(N):
        fused, specialist, alm = by_hand(row, weight, rule)
        assert columns["label"][row] == LABELS[int(np.argmax(fused))]
        numbers = [max(fused), -sum(x * np.log(x) for x in fused if x), *fused, *specialist[:3], *alm]
        np.testing.assert_allclose([columns[name][row] for name in names[1:]], numbers, rtol=1e-5, atol=1e-7)


def test_column_types_match_the_table():
    columns = label_columns(BOTH, EMBEDDINGS, LOGITS, None)
    assert columns.pop("label").dtype == object
    assert {array.dtype for array in columns.values()} == {np.dtype(np.float32)}
    assert {array.shape for array in columns.values()} == {(N,)}


def test_no_segments_give_empty_columns():
    some, none = (label_columns(BOTH, EMBEDDINGS[:n], LOGITS[:n], None) for n in (N, 0))
    assert {name: array.dtype for name, array in none.items()} == {k: v.dtype for k, v in some.items()}
    assert {array.shape for array in none.values()} == {(0,)}


@pytest.mark.parametrize("ensemble", ["embedding", "logit", "probability"])
def test_alm_alone_is_the_fused_posterior(ensemble):
    labelling = replace(BOTH, specialist_labels=None, ensemble=ensemble)
    columns = label_columns(labelling, EMBEDDINGS, None, None)
    assert not any(name.startswith("specialist_") for name in columns)
    for label in ("angry", "very_bored"):
        np.testing.assert_array_equal(columns[f"p_{label}"], columns[f"alm_{label}"])
    assert not labelling.inside.any()
    assert list(columns) == list(labelling.column_names)


def test_specialist_alone_gives_uncovered_labels_0():
    labelling = replace(BOTH, text=None)
    columns = label_columns(labelling, None, LOGITS, None)
    assert not any(name.startswith("alm_") for name in columns)
    assert not columns["p_very_bored"].any()
    np.testing.assert_array_equal(columns["p_sad"], columns["specialist_sad"])
    assert list(columns) == list(labelling.column_names)


def test_ties_go_to_the_first_label():
    columns = label_columns(replace(BOTH, text=None), None, np.zeros((1, 4), np.float32), None)
    assert columns["label"].tolist() == ["angry"]


def test_missing_model_outputs_raise_value_error():
    with pytest.raises(ValueError, match="needs embeddings"):
        posteriors(BOTH, None, LOGITS, None)
    with pytest.raises(ValueError, match="needs logits"):
        posteriors(BOTH, EMBEDDINGS, None, None)
    with pytest.raises(ValueError, match="at least one model"):
        posteriors(replace(BOTH, text=None, specialist_labels=None), None, None, None)


def test_user_errors_raise_input_error():
    with pytest.raises(InputError, match="no fusion rule"):
        label_columns(replace(BOTH, fusion="log_linear"), EMBEDDINGS, LOGITS, None)
    with pytest.raises(InputError, match="covers none of the labels"):
        label_columns(replace(BOTH, labels=("eerie", "smug"), text=None), None, LOGITS, None)


@given(
    seed=st.integers(0, 10_000),
    weight=st.floats(0, 1),
    rule=st.sampled_from(["linear", "loglinear"]),
    n_labels=st.integers(2, 4),
    strength=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_posteriors_sum_to_1_and_extreme_weights_return_the_inputs(seed, weight, rule, n_labels, strength):
    draw = np.random.default_rng(seed)
    labelling = replace(
        BOTH, labels=LABELS[:n_labels], text=TEXT[:, :n_labels], weight=weight, fusion=rule, scale=strength
    )
    embeddings = unit(draw.standard_normal((6, A, D)))
    logits = (strength * draw.standard_normal((6, len(THEIRS)))).astype(np.float32)
    fused, specialist, alm = posteriors(labelling, embeddings, logits, None)
    for part in (fused, specialist, alm):
        assert part is not None
        assert (part >= 0).all()
        np.testing.assert_allclose(part.sum(axis=1), 1)
    np.testing.assert_array_equal(
        posteriors(replace(labelling, weight=1.0), embeddings, logits, None)[0], alm
    )
    if labelling.inside.all():
        at_0 = posteriors(replace(labelling, weight=0.0), embeddings, logits, None)[0]
        np.testing.assert_array_equal(at_0, specialist)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6, 1.0])
def test_segment_below_the_threshold_is_unsure_and_keeps_its_probabilities(threshold: float) -> None:
    labels = ("happy", "sad", "bored")
    certain = Labelling(labels, None, 1.0, labels, "embedding", 1.0, "linear", 0.5)
    logits = np.random.default_rng(0).normal(size=(50, 3))
    before = label_columns(certain, None, logits, None)
    unsure = replace(certain, unsure_below=threshold)
    after = label_columns(unsure, None, logits, None)
    below = before["confidence"] < threshold
    assert (after["label"] == np.where(below, "unsure", before["label"])).all()
    assert all(np.array_equal(after[name], before[name]) for name in before if name != "label")
    assert set(after["label"]) <= set(unsure.names)
    assert unsure.names == (labels if threshold == 0 else (*labels, "unsure"))


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e308])
@pytest.mark.parametrize("both", [True, False])
def test_posteriors_that_are_not_finite_are_an_error(scale: float, both: bool):
    labelling = replace(BOTH, scale=scale, temperature=1e-3)
    if not both:
        labelling = replace(labelling, specialist_labels=None)
    with np.errstate(all="ignore"), pytest.raises(InputError, match=f"posteriors of {N} of {N} segments are"):
        label_columns(labelling, EMBEDDINGS, LOGITS if both else None, None)


def test_one_segment_with_logits_that_are_not_finite_is_counted():
    logits = LOGITS.copy()
    logits[2, 0] = np.nan
    with pytest.raises(InputError, match=f"posteriors of 1 of {N} segments are not finite"):
        label_columns(BOTH, EMBEDDINGS, logits, None)


def test_the_share_outside_the_label_set():
    own = np.array([exponentials([float(x) / 0.5 for x in row]) for row in LOGITS])
    share = outside_share(replace(BOTH, specialist_temperature=0.5), LOGITS, None)
    np.testing.assert_allclose(share, own[:, THEIRS.index("neutral")])
    assert BOTH.drops
    for covered in (replace(BOTH, labels=(*LABELS, "neutral")), replace(BOTH, specialist_labels=None)):
        assert outside_share(covered, LOGITS, None) is None
        assert not covered.drops
