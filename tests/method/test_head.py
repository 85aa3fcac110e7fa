"""A head adds a linear function of the vectors to the specialist's logits."""

import numpy as np
from scipy.special import softmax

from zsfuse_ray.method.head import NEW_SHARE, Head, start_logits


def test_logits_are_those_of_the_specialist_plus_the_correction() -> None:
    rng = np.random.default_rng(0)
    logits, vectors = rng.standard_normal((6, 3)), rng.standard_normal((6, 5)).astype(np.float32)
    weight, bias = rng.standard_normal((3, 5)), rng.standard_normal(3)
    head = Head(("a", "b", "c"), weight, bias, temperature=2.0)
    expected = [[(logits[i, k] + vectors[i] @ weight[k] + bias[k]) / 2 for k in range(3)] for i in range(6)]
    np.testing.assert_allclose(head.logits(logits, vectors), expected)
    np.testing.assert_allclose(head.logits(logits[:1], vectors[:1]), head.logits(logits, vectors)[:1])


def test_a_new_label_starts_with_a_small_share_of_the_old_ones() -> None:
    logits = np.array([[800.0, 1.0, -5.0], [0.0, 0.0, 0.0]])
    start = start_logits(logits, 2)
    np.testing.assert_array_equal(start[:, :3], logits)
    posteriors = softmax(start, axis=1)
    np.testing.assert_allclose(posteriors[:, 3:], NEW_SHARE / (1 + 2 * NEW_SHARE))
    np.testing.assert_array_equal(start_logits(logits, 0), logits)
