"""Classification losses over soft targets, as sums and weights that are reduced over workers."""

import torch
from torch import Tensor


def soft_targets(labels: Tensor, partners: Tensor, shares: Tensor, classes: int) -> Tensor:
    """Return (n, classes) float32 target probabilities of mixed clips.

    labels, partners: (n,) the classes of a clip and of the clip mixed into it; shares: (n,).
    """
    targets = torch.zeros(len(labels), classes, device=labels.device)
    targets.scatter_add_(1, labels[:, None], (1 - shares)[:, None])
    return targets.scatter_add_(1, partners[:, None], shares[:, None])


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    known: Tensor | None = None,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the summed losses of the clips and their summed weights; the quotient is the mean loss.

    logits, targets: (n, classes). class_weights: (classes,); a clip has the weight of its target, as in
    torch's cross entropy. known: (n, classes) bool, classes that a clip's corpus has; the others are
    excluded from its softmax. smoothing spreads that share of the target over the known classes.
    focal_gamma above 0 is the focal loss (Lin et al. 2017), 0 plain cross entropy.
    """
    if known is None:
        known = torch.ones_like(targets, dtype=torch.bool)
    # a finite minimum, as 0 · -inf would be NaN
    log_p = logits.float().masked_fill(~known, torch.finfo(torch.float32).min / 2).log_softmax(dim=1)
    spread = known / known.sum(dim=1, keepdim=True)
    wanted = (1 - smoothing) * targets + smoothing * spread
    weights = torch.ones(logits.shape[1], device=logits.device) if class_weights is None else class_weights
    terms = wanted * weights * -log_p
    if focal_gamma:
        terms = terms * (1 - log_p.exp()).clamp(min=1e-8) ** focal_gamma
    return terms.masked_fill(~known, 0.0).sum(), (targets * weights).sum()


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return (classes,) weights n / (classes · n(c)), scikit-learn's "balanced"; every class must occur."""
    number = torch.bincount(labels, minlength=classes)
    return len(labels) / (classes * number)
