"""Contrastive losses verified against closed forms and torch, and split over two processes."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from zsfuse_ray.training.contrastive import gather, info_nce, sigmoid

N, D = 7, 5
ALL = slice(0, N)
CLOSE = {"rtol": 0, "atol": 1e-5}
KNOWN = torch.ones(N, N, dtype=torch.bool)


def pairs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    audio, text = (normalize(torch.randn(N, D, generator=generator), dim=-1) for _ in range(2))
    truth = (torch.rand(N, N, generator=generator) < 0.3).float()
    known = torch.rand(N, N, generator=generator) < 0.8
    truth.fill_diagonal_(1)
    known.fill_diagonal_(True)
    return audio, text, truth, known


def test_info_nce_with_one_positive_per_row_equals_clip():
    audio, text, _, _ = pairs()
    logits, targets = 9 * audio @ text.T, torch.arange(N)
    expected = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    got = info_nce(audio, text, torch.tensor(9.0), torch.eye(N), KNOWN, ALL) / N
    torch.testing.assert_close(got, expected, **CLOSE)


def test_smoothing_equals_torch():
    audio, text, _, _ = pairs()
    logits, targets = 9 * audio @ text.T, torch.arange(N)
    expected = sum(cross_entropy(x, targets, label_smoothing=0.2) for x in (logits, logits.T)) / 2
    got = info_nce(audio, text, torch.tensor(9.0), torch.eye(N), KNOWN, ALL, smoothing=0.2) / N
    torch.testing.assert_close(got, expected, **CLOSE)


def test_info_nce_with_several_positives_is_their_mean():
    audio, text, truth, known = pairs(1)
    expected = 0.0
    for direction in (lambda m: m, lambda m: m.T):
        logits, yes, counts = direction(4 * audio @ text.T), direction(truth), direction(known)
        for i in range(N):
            total = sum(math.exp(logits[i, j]) for j in range(N) if counts[i, j])
            positives = [j for j in range(N) if yes[i, j] and counts[i, j]]
            terms = [-math.log(math.exp(logits[i, j]) / total) for j in positives]
            expected += sum(terms) / len(terms) / 2
    got = info_nce(audio, text, torch.tensor(4.0), truth, known, ALL).item()
    assert got == pytest.approx(expected, abs=1e-4)


def test_sigmoid_equals_siglip():
    """Pseudocode of Zhai et al. 2023: labels 2·eye − 1, −sum log sigmoid(labels · logits)."""
    audio, text, _, _ = pairs()
    logits = 10 * audio @ text.T - 3
    expected = -logsigmoid((2 * torch.eye(N) - 1) * logits).sum()
    got = sigmoid(audio, text, torch.tensor(10.0), torch.tensor(-3.0), torch.eye(N), KNOWN, ALL)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-4)


def test_unknown_pair_has_no_gradient():
    audio, text, truth, known = pairs(2)
    text.requires_grad_(True)
    known[:, 3] = False
    truth[3, 4] = known[3, 4] = True
    for loss in (
        info_nce(audio, text, torch.tensor(4.0), truth, known, ALL),
        sigmoid(audio, text, torch.tensor(4.0), torch.tensor(0.0), truth, known, ALL),
    ):
        (gradient,) = torch.autograd.grad(loss, text)
        assert gradient[3].abs().max() == 0
        assert gradient[[0, 1, 2, 4]].abs().max() > 0
        assert loss.isfinite()


def test_truth_of_one_half_lies_between():
    audio, text, _, _ = pairs()
    args = audio, text, torch.tensor(4.0), torch.tensor(-1.0)
    none, half, full = (sigmoid(*args, share * torch.eye(N), KNOWN, ALL) for share in (0, 0.5, 1))
    torch.testing.assert_close(half, (none + full) / 2)


def towers():
    torch.manual_seed(5)
    return torch.nn.Linear(4, D), torch.nn.Linear(3, D), torch.nn.Parameter(torch.tensor(1.5))


def losses(features, words, rows, kind):
    """Loss of the clips `rows` of this process, and its gradients."""
    audio_tower, text_tower, log_scale = towers()
    audio = normalize(audio_tower(features[rows]), dim=-1)
    text = normalize(text_tower(words[rows]), dim=-1)
    shared = gather(audio, text, torch.arange(N)[rows])
    audio, text, order = shared.tensors
    _, _, truth, known = pairs(3)
    truth, known, scale = truth[order][:, order], known[order][:, order], log_scale.exp()
    if kind == "info_nce":
        loss = info_nce(audio, text, scale, truth, known, shared.own, 0.1)
    else:
        loss = sigmoid(audio, text, scale, torch.tensor(-2.0), truth, known, shared.own)
    loss.backward()
    parameters = [*audio_tower.parameters(), *text_tower.parameters(), log_scale]
    return loss.detach(), torch.cat([p.grad.flatten() for p in parameters])


def batch():
    generator = torch.Generator().manual_seed(4)
    return torch.randn(N, 4, generator=generator), torch.randn(N, 3, generator=generator)


def worker(rank, path, results, kind):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    loss, gradient = losses(*batch(), slice(rank, None, 2), kind)  # 4 clips here, 3 there
    dist.all_reduce(loss)
    dist.all_reduce(gradient)
    results[rank] = (loss.item(), gradient.tolist())
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_two_workers_equal_one(tmp_path, kind):
    expected, gradient = losses(*batch(), slice(None), kind)
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(worker, (str(tmp_path / "store"), results, kind), nprocs=2)
        for rank in range(2):
            loss, found = results[rank]
            assert loss == pytest.approx(expected.item(), abs=1e-4)
            torch.testing.assert_close(torch.tensor(found), gradient, rtol=0, atol=1e-4)
    assert gradient.abs().max() > 0.1
