"""Losses verified against torch, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy, one_hot

from zsfuse_ray.training.losses import balanced_weights, classification_loss, soft_targets

CLASSES = 5


def some(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, CLASSES, generator=rng)
    labels = torch.randint(CLASSES, (n,), generator=rng)
    return logits, labels, 0.2 + torch.rand(CLASSES, generator=rng)


@given(st.integers(1, 20), st.integers(0, 99), st.floats(0, 0.9), st.booleans())
def test_equals_torch_cross_entropy(n: int, seed: int, smoothing: float, weighted: bool) -> None:
    logits, labels, weights = some(n, seed)
    used = weights if weighted else None
    loss, weight = classification_loss(logits, one_hot(labels, CLASSES).float(), used, None, smoothing)
    wanted = cross_entropy(logits, labels, weight=used, label_smoothing=smoothing)
    assert (loss / weight).item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-6)


@given(st.integers(1, 20), st.integers(0, 99), st.floats(0, 1))
def test_mixed_targets_give_mixed_losses(n: int, seed: int, share: float) -> None:
    logits, labels, _ = some(n, seed)
    partners = labels.roll(1)
    targets = soft_targets(labels, partners, torch.full((n,), share), CLASSES)
    assert torch.allclose(targets.sum(1), torch.ones(n))
    loss, weight = classification_loss(logits, targets)
    wanted = (1 - share) * cross_entropy(logits, labels) + share * cross_entropy(logits, partners)
    assert (loss / weight).item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-6)


@given(st.integers(1, 20), st.integers(0, 99), st.floats(0.1, 4))
def test_focal_loss_equals_its_formula(n: int, seed: int, gamma: float) -> None:
    logits, labels, weights = some(n, seed)
    loss, _ = classification_loss(logits, one_hot(labels, CLASSES).float(), weights, focal_gamma=gamma)
    p = logits.double().softmax(1)[torch.arange(n), labels]
    wanted = (weights[labels] * (1 - p) ** gamma * -p.log()).sum()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3, abs=1e-5)


@given(st.integers(1, 20), st.integers(0, 99), st.floats(0, 0.5))
def test_unknown_labels_are_excluded(n: int, seed: int, smoothing: float) -> None:
    """A clip of a corpus with labels 0-2 has the same loss as in a model of these three."""
    logits, labels, weights = some(n, seed)
    labels = labels % 3
    known = torch.tensor([True, True, True, False, False]).expand(n, CLASSES)
    logits.requires_grad = True
    loss, weight = classification_loss(logits, one_hot(labels, CLASSES).float(), weights, known, smoothing)
    wanted = cross_entropy(logits[:, :3], labels, weight=weights[:3], label_smoothing=smoothing)
    assert (loss / weight).item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[:, 3:].abs().max() == 0
    assert gradient.isfinite().all()


@given(st.integers(2, 20), st.integers(0, 99))
def test_sums_of_parts_are_the_sum(n: int, seed: int) -> None:
    logits, labels, weights = some(n, seed)
    targets = one_hot(labels, CLASSES).float()
    whole = classification_loss(logits, targets, weights)
    parts = [classification_loss(logits[i : i + 3], targets[i : i + 3], weights) for i in range(0, n, 3)]
    for k in (0, 1):
        assert sum(part[k].item() for part in parts) == pytest.approx(whole[k].item(), rel=1e-4)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50))
def test_balanced_weights_equal_scikit_learn(labels: list[int]) -> None:
    labels = [0, 1, 2, *labels]
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(torch.tensor(labels), 3).numpy(), wanted, rtol=1e-6)


def test_certain_correct_predictions_give_no_nan() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    loss, _ = classification_loss(logits, torch.tensor([[1.0, 0.0, 0.0]]), focal_gamma=0.5)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
