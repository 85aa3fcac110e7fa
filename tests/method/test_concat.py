import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.concat import STRENGTHS, Concat, fit_concat, joined, layer_norm, zero_shot_scores
from zsfuse_ray.method.logistic import Classifier
from zsfuse_ray.method.zeroshot import softmax


def labelled(n: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Vectors that tell labels 0 and 1 apart from 2, scores that tell 0 from 1; targets and six speakers."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, n)
    vectors = rng.normal(size=(n, 12))
    vectors[:, 0] += 4.0 * (targets == 2)
    scores = rng.normal(size=(n, 3))
    scores[:, 0] += 3.0 * (targets == 0)
    return vectors, scores, targets, np.arange(n) % 6


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 99), st.sampled_from([1e-3, 1.0, 50.0]))
def test_the_norm_is_that_of_torch(n: int, width: int, seed: int, size: float):
    x = size * np.random.default_rng(seed).normal(size=(n, width))
    wanted = torch.nn.functional.layer_norm(torch.from_numpy(x), (width,)).numpy()
    np.testing.assert_allclose(layer_norm(x), wanted, atol=1e-9)


def test_it_equals_the_papers_layers_in_torch():
    """Two layer norms with gains and offsets and a linear layer, folded into one classifier."""
    torch.manual_seed(0)
    vector_norm, score_norm = torch.nn.LayerNorm(10).double(), torch.nn.LayerNorm(4).double()
    for norm in (vector_norm, score_norm):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    linear = torch.nn.Linear(14, 4).double()
    vectors, scores = torch.randn(5, 10).double(), torch.randn(5, 4).double()
    with torch.no_grad():
        wanted = linear(torch.cat([vector_norm(vectors), score_norm(scores)], dim=1)).softmax(dim=1)
        gain = torch.cat([vector_norm.weight, score_norm.weight])
        offset = torch.cat([vector_norm.bias, score_norm.bias])
        weight, bias = linear.weight * gain, linear.bias + linear.weight @ offset
    fused = Concat(Classifier(weight.numpy(), bias.numpy())).predict(vectors, scores)
    np.testing.assert_allclose(fused, wanted.numpy(), atol=1e-12)


def test_it_equals_a_loop_over_clips_and_labels():
    rng = np.random.default_rng(1)
    coef, intercept = rng.normal(size=(3, 7)), rng.normal(size=3)
    vectors, scores = rng.normal(size=(4, 4)), rng.normal(size=(4, 3))
    fused = Concat(Classifier(coef, intercept, temperature=2.0)).predict(vectors, scores)
    for n in range(4):
        parts = []
        for row in (vectors[n], scores[n]):
            mean = sum(row) / len(row)
            spread = (sum((x - mean) ** 2 for x in row) / len(row) + 1e-5) ** 0.5
            parts += [(x - mean) / spread for x in row]
        logits = [sum(w * x for w, x in zip(coef[c], parts, strict=True)) + intercept[c] for c in range(3)]
        powers = [np.exp(one / 2.0) for one in logits]
        np.testing.assert_allclose(fused[n], np.array(powers) / sum(powers), atol=1e-12)


def test_it_uses_what_each_model_knows():
    vectors, scores, targets, speakers = labelled(1800)
    fusion = fit_concat(vectors[:900], scores[:900], targets[:900], 3, speakers[:900])
    other = fit_concat(vectors[:900], np.zeros((900, 3)), targets[:900], 3, speakers[:900])
    right = (fusion.predict(vectors[900:], scores[900:]).argmax(axis=1) == targets[900:]).mean()
    alone = (other.predict(vectors[900:], np.zeros((900, 3))).argmax(axis=1) == targets[900:]).mean()
    assert right > alone + 0.1
    assert fusion.classifier.c in STRENGTHS


def test_its_fit_has_no_gradient():
    """At the optimum the balanced loss plus |W|²/2C has gradient 0: C · X'(p − y)·weights + W = 0."""
    vectors, scores, targets, speakers = labelled(300)
    model = fit_concat(vectors, scores, targets, 3, speakers).classifier
    inputs = joined(vectors, scores)
    weights = (len(targets) / (3 * np.bincount(targets)))[targets]
    wrong = (softmax(model.logits(inputs)) - np.eye(3)[targets]) * weights[:, None]
    gradient = model.c * wrong.T @ inputs + model.coef
    assert np.abs(gradient).max() < 1e-3 * np.abs(model.c * np.abs(wrong).T @ np.abs(inputs)).max()
    np.testing.assert_allclose(wrong.sum(axis=0), 0, atol=1e-3 * len(targets))


def test_its_probabilities_are_calibrated_on_left_out_speakers():
    """On noise, an honest classifier is not sure of anything, however many inputs it was given."""
    rng = np.random.default_rng(0)
    vectors, targets, speakers = rng.normal(size=(120, 400)), rng.integers(0, 3, 120), np.arange(120) % 6
    fusion = fit_concat(vectors, rng.normal(size=(120, 3)), targets, 3, speakers)
    fused = fusion.predict(rng.normal(size=(200, 400)), rng.normal(size=(200, 3)))
    assert fusion.classifier.temperature > 1
    assert fused.max(axis=1).mean() < 0.6


def test_scores_of_each_kind():
    rng = np.random.default_rng(2)
    audio, text = rng.normal(size=(5, 2, 6)), rng.normal(size=(3, 4, 6))
    audio /= np.linalg.norm(audio, axis=-1, keepdims=True)
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    cosines = np.einsum("nad,pcd->npc", audio, text) / 2
    np.testing.assert_allclose(zero_shot_scores(audio, text, 9.0, "cosine", "logit"), cosines.mean(axis=1))
    np.testing.assert_allclose(zero_shot_scores(audio, text, 9.0, "logit", "logit"), 9 * cosines.mean(axis=1))
    each = zero_shot_scores(audio, text, 9.0, "posterior", "logit", per_prompt=True)
    np.testing.assert_allclose(each, softmax(9 * cosines).reshape(5, 12))
    mean = zero_shot_scores(audio, text, 9.0, "posterior", "probability")
    np.testing.assert_allclose(mean, softmax(9 * cosines).mean(axis=1))
    np.testing.assert_allclose(
        zero_shot_scores(audio, text, 9.0, "logit", "probability"), 9 * cosines.mean(1)
    )


def test_a_single_label_is_an_error():
    with pytest.raises(InputError, match="at least two labels"):
        fit_concat(np.ones((4, 3)), np.ones((4, 2)), [0, 0, 0, 0], 2)
