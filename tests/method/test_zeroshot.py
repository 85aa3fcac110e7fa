from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.zeroshot import Ensemble, posterior, scores, softmax

ENSEMBLES: tuple[Ensemble, ...] = get_args(Ensemble)
seeds = st.integers(0, 2**32 - 1)


def unit(rng: np.random.Generator, *shape: int) -> NDArray:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def brute_force(
    audio: NDArray, text: NDArray, scale: float, ensemble: Ensemble, temperature: float
) -> NDArray:
    """The definitions, computed per clip, input, prompt and label."""
    n, a, _ = audio.shape
    p, c, _ = text.shape
    result = np.zeros((n, c))
    for i in range(n):
        cosines = np.array(
            [[[audio[i, r] @ text[t, k] for k in range(c)] for t in range(p)] for r in range(a)]
        )
        if ensemble == "probability":
            result[i] = scipy_softmax(scale * cosines.mean(axis=0) / temperature, axis=-1).mean(axis=0)
        elif ensemble == "logit":
            result[i] = scipy_softmax(scale * cosines.mean(axis=(0, 1)) / temperature)
        else:
            means = [sum(text[t, k] for t in range(p)) / p for k in range(c)]
            similar = [[audio[i, r] @ m / np.sqrt(m @ m) for m in means] for r in range(a)]
            result[i] = scipy_softmax(scale * np.mean(similar, axis=0) / temperature)
    return result


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@given(seed=seeds, scale=st.floats(0.1, 200), temperature=st.floats(0.05, 20))
def test_posterior_equals_its_definition(ensemble: Ensemble, seed: int, scale: float, temperature: float):
    rng = np.random.default_rng(seed)
    audio, text = unit(rng, 3, 2, 5), unit(rng, 4, 3, 5)
    result = posterior(audio, text, scale, ensemble, temperature)
    np.testing.assert_allclose(result, brute_force(audio, text, scale, ensemble, temperature), atol=1e-10)
    np.testing.assert_allclose(result.sum(axis=1), 1)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_single_prompt_without_amplification_is_plain_zero_shot(ensemble: Ensemble):
    rng = np.random.default_rng(0)
    audio, text = unit(rng, 6, 8), unit(rng, 1, 4, 8)
    plain = scipy_softmax(14.3 * audio @ text[0].T, axis=1)
    np.testing.assert_allclose(posterior(audio, text, 14.3, ensemble), plain)
    np.testing.assert_allclose(posterior(audio[:, None], text, 14.3, ensemble), plain)
    # repeated text inputs and identical amplified inputs do not change the posterior
    same_inputs = np.stack([audio] * 3, axis=1)
    np.testing.assert_allclose(posterior(same_inputs, text.repeat(3, axis=0), 14.3, ensemble), plain)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@given(seed=seeds)
def test_posterior_follows_label_order_and_ignores_prompt_order(ensemble: Ensemble, seed: int):
    rng = np.random.default_rng(seed)
    audio, text = unit(rng, 5, 2, 7), unit(rng, 4, 6, 7)
    labels, prompts, clips = rng.permutation(6), rng.permutation(4), rng.permutation(5)
    plain = posterior(audio, text, 20, ensemble)
    np.testing.assert_allclose(posterior(audio, text[:, labels], 20, ensemble), plain[:, labels])
    np.testing.assert_allclose(posterior(audio, text[prompts], 20, ensemble), plain)
    np.testing.assert_allclose(posterior(audio[clips, ::-1], text, 20, ensemble), plain[clips])


def test_float32_embeddings_are_scored_in_float64():
    rng = np.random.default_rng(0)
    audio, text = unit(rng, 5, 7).astype(np.float32), unit(rng, 2, 3, 7).astype(np.float32)
    assert posterior(audio, text, 100).dtype == np.float64
    np.testing.assert_array_equal(
        posterior(audio, text, 100), posterior(audio.astype(float), text.astype(float), 100)
    )


def test_cancelling_prompts_score_zero():
    text = np.array([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(scores([[0.6, 0.8]], text, 10), [[0, 8]])


def test_softmax_is_stable_along_any_axis():
    x = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(softmax(x), [[1, 0, 0], [1 / 3] * 3], atol=1e-300)
    np.testing.assert_allclose(softmax(x, axis=0), scipy_softmax(x, axis=0))


def test_invalid_arguments_are_errors():
    rng = np.random.default_rng(0)
    audio, text = unit(rng, 5, 7), unit(rng, 2, 3, 7)
    with pytest.raises(ValueError, match="no scores"):
        scores(audio, text, 1, "probability")
    for temperature in (0, -1, float("nan")):
        with pytest.raises(InputError, match="temperature"):
            posterior(audio, text, 1, "logit", temperature)
