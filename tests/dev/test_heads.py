"""Training of the shipped heads on vectors whose emotions are known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from dev.mini.heads import L2, Clips, _classifier, fit
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Readout

LABELS = ("angry", "neutral", "sad")
SIZE, DIM = 12, 6


def clips(seed: int, speakers: int = 8, each: int = 12, shift: float = 1.0) -> Clips:
    """Two corpora, of which the second has no angry clips; speakers differ by a constant."""
    rng = np.random.default_rng(seed)
    means = 2 * np.random.default_rng(99).normal(size=(len(LABELS), SIZE))
    voices = shift * rng.normal(size=(speakers, SIZE))
    speaker = np.repeat(np.arange(speakers), each)
    corpus = speaker % 2
    targets = np.where(corpus == 1, rng.integers(1, 3, len(speaker)), rng.integers(0, 3, len(speaker)))
    vectors = means[targets] + voices[speaker] + rng.normal(size=(len(speaker), SIZE)) + 5
    return Clips(vectors.astype(np.float32), targets, corpus, speaker, LABELS)


def captions() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    centres = normalize(torch.from_numpy(rng.normal(size=(len(LABELS), 1, DIM))), dim=-1)
    rows = normalize(centres + 0.1 * torch.from_numpy(rng.normal(size=(len(LABELS), 20, DIM))), dim=-1)
    return {label: rows[place].float().numpy() for place, label in enumerate(LABELS)}


def test_weights_are_equal_for_corpora_and_their_labels() -> None:
    one = clips(0)
    assert one.weights.sum() == pytest.approx(1)
    for corpus in (0, 1):
        own = one.corpora == corpus
        assert one.weights[own].sum() == pytest.approx(0.5)
        for label in np.unique(one.targets[own]):
            share = one.weights[own & (one.targets == label)].sum()
            assert share == pytest.approx(0.5 / len(np.unique(one.targets[own])))
    assert one.possible[one.corpora == 1].tolist() == [[False, True, True]] * int((one.corpora == 1).sum())


def test_the_classifier_is_at_the_minimum_of_its_loss() -> None:
    """The gradient of the penalised loss, by torch, is zero there."""
    one = clips(1)
    weight, bias = _classifier(one.vectors, one.targets, one.possible, one.weights)
    parameters = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (weight, bias)]
    logits = torch.from_numpy(one.vectors).double() @ parameters[0].T + parameters[1]
    logits = logits.masked_fill(~torch.from_numpy(one.possible), -1e4)
    chosen = logits.log_softmax(dim=1)[torch.arange(len(one.targets)), torch.from_numpy(one.targets)]
    loss = -(torch.from_numpy(one.weights) * chosen).sum() + L2 / 2 * parameters[0].square().sum()
    gradients = torch.autograd.grad(loss, parameters)
    assert max(float(gradient.abs().max()) for gradient in gradients) < 2e-3


def test_heads_label_other_speakers_and_normalisation_helps() -> None:
    heads = fit(clips(2, speakers=30), captions(), 16, seed=0)
    other = clips(3, shift=3.0)
    vectors = (other.vectors - heads.mean) / heads.deviation
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in heads.projection[::2]]
    readout = Readout((heads.weight, heads.bias), (layers[0], layers[1]))
    bank = np.stack([rows.mean(axis=0) for rows in captions().values()], axis=1)

    def accuracy(values: np.ndarray) -> tuple[float, float]:
        scores = readout.logits(values), readout.embeddings(values) @ bank
        allowed = [np.where(other.possible, score, -np.inf) for score in scores]
        return tuple(float((score.argmax(axis=1) == other.targets).mean()) for score in allowed)  # type: ignore

    plain, by_speaker = accuracy(vectors), accuracy(normalised(vectors, [str(s) for s in other.speakers]))
    assert min(by_speaker) > 0.8
    assert min(np.subtract(by_speaker, plain)) > 0.05


def test_the_same_seed_gives_the_same_heads() -> None:
    one, again = (fit(clips(4), captions(), 8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.weight, again.weight)
    assert one.log_scale == again.log_scale
    for first, second in zip(one.projection.parameters(), again.projection.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_readout_equals_the_network() -> None:
    heads = fit(clips(5), captions(), 8, seed=0)
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in heads.projection[::2]]
    vectors = np.random.default_rng(0).normal(size=(5, SIZE)).astype(np.float32)
    with torch.no_grad():
        expected = normalize(heads.projection(torch.from_numpy(vectors)), dim=-1).numpy()
    found = Readout(None, (layers[0], layers[1])).embeddings(vectors)
    np.testing.assert_allclose(found, expected, atol=1e-6)
