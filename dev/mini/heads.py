"""The heads of the shipped model, trained on vectors of its frozen trunk.

Each clip is seen three times: standardised; normalised by its speaker; and normalised by statistics of a part
of its speaker's clips, most of them neutral, as in an archive. So the same heads work on a single clip and
with ``--normalise``. All corpora have the same weight, and so have all labels of a corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn
from torch.nn.functional import normalize

from zsfuse_ray.method.normalise import Sums, normalised

NEUTRAL, NEUTRAL_SHARE = "neutral", 0.8
L2 = 0.1
STEPS, BATCH, PROMPTS = 400, 256, 8  # of the projection: steps, clips per step, captions per label and step
LR, WEIGHT_DECAY, SMOOTHING = 2e-3, 0.1, 0.05
_OUTSIDE = -1e4  # logit of a label that a clip's corpus does not have


@dataclass(frozen=True, eq=False)
class Clips:
    """Vectors (n, V) of labelled clips.

    targets: (n,) indices of labels. corpora, speakers: (n,) integers, speakers distinct between corpora.
    """

    vectors: NDArray[np.float32]
    targets: NDArray[np.int64]
    corpora: NDArray[np.int64]
    speakers: NDArray[np.int64]
    labels: tuple[str, ...]

    def of(self, chosen: NDArray[Any]) -> "Clips":
        """The chosen clips."""
        return replace(
            self,
            vectors=self.vectors[chosen],
            targets=self.targets[chosen],
            corpora=self.corpora[chosen],
            speakers=self.speakers[chosen],
        )

    def among(self, labels: tuple[str, ...], corpus: int, first_speaker: int) -> "Clips":
        """These clips of one corpus with other labels and numbers. KeyError for a label not among them."""
        place = {label: number for number, label in enumerate(labels)}
        return Clips(
            self.vectors,
            np.array([place[label] for label in self.labels])[self.targets],
            np.full(len(self.targets), corpus),
            self.speakers + first_speaker,
            labels,
        )

    @property
    def possible(self) -> NDArray[np.bool_]:
        """Which labels the corpus of each clip has, (n, labels)."""
        has = np.zeros((self.corpora.max() + 1, len(self.labels)), bool)
        has[self.corpora, self.targets] = True
        return has[self.corpora]

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights (n,) that sum to 1, equal for all corpora and for all labels of a corpus."""
        cell = self.corpora * len(self.labels) + self.targets
        _, place, counts = np.unique(cell, return_inverse=True, return_counts=True)
        weights = 1 / counts[place] / self.possible.sum(axis=1)
        return weights / weights.sum()


def joined(parts: Sequence[Clips]) -> Clips:
    """Concatenate clips of different corpora with the same labels."""
    return Clips(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.corpora for part in parts]),
        np.concatenate([part.speakers for part in parts]),
        parts[0].labels,
    )


@dataclass(frozen=True, eq=False)
class Heads:
    """Trained heads: standardisation (V,), classifier (L, V) and (L,), projection, log of the ALM's scale.

    known: (L,), the labels of the training clips; the classifier's other outputs are meaningless.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    projection: nn.Sequential
    log_scale: float
    known: NDArray[np.bool_]

    def standardised(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors (n, V) with mean 0 and variance 1 in training."""
        return (vectors - self.mean) / self.deviation

    def logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the specialist's logits (n, L) of standardised vectors."""
        return vectors @ self.weight.T + self.bias

    def embeddings(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ALM's normalised embeddings (n, D) of standardised vectors."""
        with torch.inference_mode():
            return normalize(self.projection(torch.from_numpy(vectors)), dim=-1).numpy()


def fit(clips: Clips, captions: Mapping[str, NDArray[np.float32]], hidden: int, seed: int) -> Heads:
    """Train both heads on clips of unstandardised vectors.

    captions: (n, D) normalised text embeddings by label; hidden: size of the projection's hidden layer.
    """
    rng = np.random.default_rng(seed)
    weights = clips.weights[:, None]
    mean = (weights * clips.vectors).sum(axis=0)
    deviation = np.sqrt((weights * np.square(clips.vectors - mean)).sum(axis=0)) + 1e-6
    plain = ((clips.vectors - mean) / deviation).astype(np.float32)
    views = [
        plain,
        normalised(plain, [str(speaker) for speaker in clips.speakers]),
        _skewed(plain, clips, rng),
    ]
    vectors = np.concatenate(views)
    targets, possible = np.tile(clips.targets, 3), np.tile(clips.possible, (3, 1))
    weights = np.tile(clips.weights, 3) / 3
    weight, bias = _classifier(vectors, targets, possible, weights)
    texts = [captions[label] for label in clips.labels]
    projection, log_scale = _projection(vectors, targets, possible, weights, texts, hidden, rng, seed)
    known = np.any(clips.possible, axis=0)
    standard = mean.astype(np.float32), deviation.astype(np.float32)
    return Heads(*standard, weight, bias, projection, log_scale, known)


def _skewed(vectors: NDArray[np.float32], clips: Clips, rng: np.random.Generator) -> NDArray[np.float32]:
    """Normalise each speaker by neutral clips and few others; speakers without neutral clips by all."""
    is_neutral = clips.targets == clips.labels.index(NEUTRAL)
    result = np.empty_like(vectors)
    for speaker in np.unique(clips.speakers):
        own = np.flatnonzero(clips.speakers == speaker)
        neutral, others = own[is_neutral[own]], own[~is_neutral[own]]
        chosen = own
        if len(neutral) and len(others):
            n = max(1, round(len(neutral) * (1 - NEUTRAL_SHARE) / NEUTRAL_SHARE))
            chosen = np.concatenate([neutral, rng.choice(others, min(n, len(others)), replace=False)])
        sums = Sums.of(vectors[chosen], ["speaker"] * len(chosen))
        result[own] = sums.normalise(vectors[own], ["speaker"] * len(own))
    return result


def _classifier(
    vectors: NDArray[np.float32],
    targets: NDArray[np.int64],
    possible: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Multinomial regression with an L2 penalty; the softmax is over the labels of the clip's corpus."""
    n_labels, size = possible.shape[1], vectors.shape[1]
    wanted = np.eye(n_labels, dtype=np.float32)[targets]
    outside = np.where(possible, 0, _OUTSIDE).astype(np.float32)
    share = weights.astype(np.float32)[:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(n_labels, size + 1).astype(np.float32)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        logits = vectors @ weight.T + bias + outside
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        log_posterior = np.maximum(logits - np.log(total), -100)
        value = -(share * wanted * log_posterior).sum() + L2 / 2 * np.square(weight).sum()
        error = share * (exponentials / total - wanted)
        gradient = np.concatenate([error.T @ vectors + L2 * weight, error.sum(axis=0)[:, None]], axis=1)
        return float(value), gradient.ravel().astype(np.float64)

    options = {"maxiter": 50, "ftol": 1e-7, "gtol": 1e-6}
    start = np.zeros(n_labels * (size + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    parameters = found.x.reshape(n_labels, size + 1).astype(np.float32)
    return parameters[:, :-1].copy(), parameters[:, -1].copy()


def _projection(
    vectors: NDArray[np.float32],
    targets: NDArray[np.int64],
    possible: NDArray[np.bool_],
    weights: NDArray[np.float64],
    texts: Sequence[NDArray[np.float32]],
    hidden: int,
    rng: np.random.Generator,
    seed: int,
) -> tuple[nn.Sequential, float]:
    """Contrastive training: the softmax is over captions of the labels of the clip's corpus, one each."""
    n_labels = possible.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Linear(vectors.shape[1], hidden), nn.Linear(hidden, texts[0].shape[1])
        for layer in linear:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        network = nn.Sequential(nn.Dropout(0.25), linear[0], nn.GELU(), nn.Dropout(0.5), linear[1])
        log_scale = nn.Parameter(torch.tensor(10.0).log())
        groups = [
            {"params": network.parameters(), "weight_decay": WEIGHT_DECAY},
            {"params": [log_scale], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=STEPS + 1, pct_start=0.1)
        mask = torch.from_numpy(possible)
        wanted = torch.eye(n_labels)[torch.from_numpy(targets)] * (1 - SMOOTHING)
        wanted = wanted + SMOOTHING * mask / mask.sum(dim=1, keepdim=True)
        banks = [torch.from_numpy(bank) for bank in texts]
        inputs = torch.from_numpy(vectors)
        for _ in range(STEPS):
            rows = torch.from_numpy(rng.choice(len(targets), BATCH, p=weights))
            drawn = [bank[torch.from_numpy(rng.integers(len(bank), size=PROMPTS))] for bank in banks]
            audio = normalize(network(inputs[rows]), dim=-1)
            logits = log_scale.exp() * torch.einsum("nd,pcd->npc", audio, torch.stack(drawn, dim=1))
            logits = logits.masked_fill(~mask[rows][:, None], _OUTSIDE)
            loss = -(wanted[rows][:, None] * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return nn.Sequential(*linear[:1], nn.GELU(), *linear[1:]).eval(), float(log_scale.detach())
