"""The training loop without Ray: several workers equal one, a resumed run equals an uninterrupted one."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.training_support import (
    EMOTIONS,
    clips_of,
    config_of,
    in_processes,
    start,
    table_of,
    tones,
)
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.training import loop
from zsfuse_ray.training.specialist import Specialist

CPU = torch.device("cpu")
N = 22

# All augmentation, but nothing that differs between workers by design (dropout).
AUGMENTED = {
    "mixup": 0.5, "speed": 0.1, "gain_db": 6, "tilt_db": 3, "noise": 0.5, "babble": 0.5, "reverb": 0.5,
    "silence_s": 0.1, "time_masks": 1, "frequency_masks": 1, "label_smoothing": 0.1, "balance": 0.5,
    "class_weights": "balanced",
}  # fmt: skip
NO_DROPOUT = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0, "final_dropout": 0.0,
    "conformer_conv_dropout": 0.0,
}  # fmt: skip


def training(config: TrainConfig, start: dict | None = None, stop_at: int | None = None) -> dict[str, Any]:
    """Train on tones; returns the result and every reported state."""
    torch.set_num_threads(1)
    table = table_of([EMOTIONS[i % 3] for i in range(N)], ["train"] * 15 + ["dev"] * (N - 15))
    task = Specialist(config, table)
    states: list[dict] = []

    class Stopped(Exception):
        pass

    def report(figures: dict[str, float], state: Any) -> None:
        states.append(copy.deepcopy(state()))
        if stop_at is not None and len(states) == stop_at:
            raise Stopped

    try:
        progress = loop.run(task, clips_of(table, tones(N)), config, CPU, report, start)
    except Stopped:
        return {"states": states}
    weights = {name: t.clone() for name, t in task.module.state_dict().items()}
    return {"history": progress.history, "weights": weights, "states": states}


def weights_after(config: TrainConfig) -> dict[str, Any]:
    """In a worker: metrics and weights as NumPy."""
    done = training(config)
    return {
        "history": done["history"],
        "weights": {name: t.numpy() for name, t in done["weights"].items()},
    }


def first_gradients(config: TrainConfig, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Gradients of a step over sum(sizes) clips; of several workers, worker r holds sizes[r] of them."""
    table = table_of([EMOTIONS[i % 3] for i in range(sum(sizes))])
    task = Specialist(config, table)
    module: Any = task.module.train()
    if loop.world() > 1:
        module = torch.nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
        ends = np.cumsum((0, *sizes))
        rows = np.arange(ends[loop.rank()], ends[loop.rank() + 1])
    else:
        rows = np.arange(sum(sizes))
    samples = tones(sum(sizes))
    audio = [torch.from_numpy(samples[row] / 32768).float() for row in rows]
    seeds = 7 + rows
    shares = np.linspace(0, 0.4, sum(sizes), dtype=np.float32)[rows]
    batch = loop.Batch(audio, rows, (rows + 1) % sum(sizes), shares, seeds)
    loss, weight = loop.gradients(module, [(batch, True)])
    named = task.module.named_parameters()
    return {"loss": loss / weight, "grads": {n: p.grad.numpy() for n, p in named if p.grad is not None}}


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2)])
def test_gradients_of_two_workers_equal_one_with_all_clips(tmp_path: Path, sizes: tuple[int, int]) -> None:
    config = config_of(start(tmp_path, "wav2vec2-bert", **NO_DROPOUT), class_weights="balanced", time_masks=1)
    one = first_gradients(config, sizes)
    two = in_processes(first_gradients, 2, config, sizes)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["grads"].keys() == one["grads"].keys()
    largest = max(np.abs(g).max() for g in one["grads"].values())
    assert largest > 1e-3
    for name, gradient in one["grads"].items():
        np.testing.assert_allclose(two["grads"][name], gradient, atol=1e-4 * largest, err_msg=name)


def test_number_of_workers_and_parts_does_not_change_training(tmp_path: Path) -> None:
    """Sampling, augmentation, mixup, averaging and dev metrics, with unequal shares of clips."""
    # one epoch, as Adam amplifies rounding errors of tiny gradients
    options = AUGMENTED | {"epochs": 1, "batch_s": 5, "lr": 1e-4, "ema": 0.5, "warmup": 0}
    init = start(tmp_path, "wav2vec2-bert", **NO_DROPOUT)
    one = training(config_of(init, **options))
    two = in_processes(weights_after, 2, config_of(init, **options, accumulate=2))
    assert two["history"][0]["loss"] == pytest.approx(one["history"][0]["loss"], rel=1e-4)
    assert two["history"][0]["dev_ua"] == one["history"][0]["dev_ua"]
    for name, weight in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], weight.numpy(), atol=1e-4, err_msg=name)


def test_resumed_training_has_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    config = config_of(
        start(tmp_path / "init"), **AUGMENTED | {"frequency_masks": 0}, epochs=2, batch_s=3, ema=0.9,
        checkpoint_steps=2,
    )  # fmt: skip
    whole = training(config)
    stopped = training(config, stop_at=2)  # within the first epoch
    torch.save(stopped["states"][-1], tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (saved["progress"]["epoch"], saved["progress"]["step"]) == (0, 4)
    resumed = training(config, saved)
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in whole["history"]]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in resumed["history"]] == without_time
    for name, weight in whole["weights"].items():
        assert torch.equal(weight, resumed["weights"][name]), name
    for name, weight in whole["states"][-1]["average"].items():
        assert torch.equal(weight, resumed["states"][-1]["average"][name]), name


def test_loss_falls_and_the_average_is_evaluated(tmp_path: Path) -> None:
    config = config_of(start(tmp_path), epochs=12, lr=3e-3, batch_s=5, ema=0.8, patience=0)
    history = training(config)["history"]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert max(row["dev_ua"] for row in history) > 0.6  # chance is a third


def test_stops_when_dev_metrics_no_longer_improve(tmp_path: Path) -> None:
    config = config_of(start(tmp_path), epochs=9, lr=1e-9, batch_s=8, patience=2)
    history = training(config)["history"]
    best = max(range(len(history)), key=lambda i: history[i]["dev_ua"])
    assert len(history) == best + 3


def test_without_dev_clips_the_last_epoch_is_ranked_best(tmp_path: Path) -> None:
    config = config_of(start(tmp_path), epochs=3, batch_s=8, patience=1)
    table = table_of([EMOTIONS[i % 3] for i in range(9)])
    reported: list[dict[str, float]] = []
    progress = loop.run(
        Specialist(config, table),
        clips_of(table, tones(9)),
        config,
        CPU,
        lambda figures, _: reported.append(figures),
    )
    assert [set(row) for row in progress.history] == [{"epoch", "steps", "loss", "lr", "seconds"}] * 3
    assert [row[loop.RANK] for row in reported] == [1, 2, 3]


def test_equal_lengths_if_padding_would_change_results(tmp_path: Path) -> None:
    config = config_of(start(tmp_path, "wav2vec2-group"), epochs=1, speed=0.1, batch_s=4)
    table = table_of([EMOTIONS[i % 3] for i in range(N)], ["train"] * 15 + ["dev"] * (N - 15))
    task = Specialist(config, table)
    assert task.same_length
    lengths: list[set[int]] = []
    task.module.register_forward_pre_hook(lambda _, args: lengths.append({len(c) for c in args[0].clips}))
    loop.run(task, clips_of(table, tones(N)), config, CPU, lambda *_: None)
    assert lengths
    assert all(len(found) == 1 for found in lengths)


def test_bfloat16_is_close_to_float32(tmp_path: Path) -> None:
    """bf16 autocast on a CPU; weights, their average and checkpoints stay float32."""
    init = start(tmp_path, "wav2vec2-bert")
    losses = {}
    for precision in ("float32", "bfloat16"):
        done = training(config_of(init, epochs=1, precision=precision, ema=0.5, lr=1e-5))
        losses[precision] = done["history"][0]["loss"]
        assert {t.dtype for t in done["weights"].values()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]


def test_training_that_diverges_is_stopped(tmp_path: Path) -> None:
    config = config_of(start(tmp_path, "wav2vec2-bert"), epochs=3, batch_s=5, lr=1e30, warmup=0)
    with pytest.raises(InputError, match=r"diverged in epoch \d.*the loss is (nan|inf); .*lower --lr"):
        training(config)
