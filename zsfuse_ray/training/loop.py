"""The training loop of one worker, for any task; several workers sum their gradients.

All randomness follows from (seed, epoch, step), so a training resumed from a checkpoint equals an
uninterrupted one, and the number of workers does not change the clips of a step.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.batching import make_batches
from zsfuse_ray.training.batches import plan_epoch, sampling_weights
from zsfuse_ray.training.feeding import Clips, floats_of, prepared, rank, with_rows, world
from zsfuse_ray.training.optimiser import Average, learned, lr_factor
from zsfuse_ray.training.task import Batch, Task

DEV_BATCH_S = {"cpu": 40, "cuda": 320}  # seconds of audio
# Ray Train ranks checkpoints by this: the dev score, or without dev clips the epoch number, so that it keeps
# the last one. It is not a metric of the model and is left out of all files for users.
RANK = "checkpoint_rank"
WITHIN_EPOCH = -1.0  # the rank of a checkpoint within an epoch: never the best


@dataclass
class Progress:
    """Progress of a training: the part of a checkpoint besides the weights."""

    epoch: int = 0
    step: int = 0  # steps done in this epoch
    loss: float = 0.0  # sums of this epoch so far
    weight: float = 0.0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


State = dict[str, Any]
Report = Callable[[dict[str, float], Callable[[], State]], None]


def run(
    task: Task,
    clips: Clips,
    config: TrainConfig,
    device: torch.device,
    report: Report,
    start: State | None = None,
) -> Progress:
    """Train to the last epoch, or until dev metrics stop improving; returns the progress.

    Every worker calls report(figures, state) after each epoch (and within, with checkpoint_steps); state()
    returns what to save. ``start``: the state saved last.
    """
    module = task.module.to(device)
    optimiser = torch.optim.AdamW(task.groups(), betas=(0.9, 0.98))
    peaks = [group["lr"] for group in optimiser.param_groups]
    average = Average(module, config.ema)
    progress = Progress()
    if start is not None:
        progress = Progress(**start["progress"])
        restore(module, start["weights"])
        optimiser.load_state_dict(start["optimiser"])
        average.restore(start["average"], start["average_steps"])

    def state() -> State:
        return {
            "progress": asdict(progress),
            "weights": learned(module),
            "optimiser": optimiser.state_dict(),
            "average": average.values,
            "average_steps": average.steps,
        }

    parallel = DistributedDataParallel(module, find_unused_parameters=True) if world() > 1 else module
    longest = round(config.crop_s * task.sample_rate)
    lengths = np.minimum(clips.samples, longest)
    weights = sampling_weights([clips.groups[row] for row in clips.train], config.balance)
    while progress.epoch < config.epochs and not _has_stopped(progress, config):
        started = time.monotonic()
        steps = [
            with_rows(step, clips.train)
            for step in plan_epoch(
                lengths[clips.train],
                weights,
                round(config.batch_s * task.sample_rate),
                config.seed,
                progress.epoch,
                config.mixup,
                config.mixup_alpha,
            )
        ]
        module.train()
        for number, parts in enumerate(
            prepared(steps, progress.step, task, clips, config, device), progress.step
        ):
            share_done = (progress.epoch + number / len(steps)) / config.epochs
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * lr_factor(share_done, config.warmup, config.final_lr)
            torch.manual_seed(_step_seed(config.seed, progress.epoch, number))
            loss, weight = gradients(parallel, parts, autocast(config, device))
            if not math.isfinite(loss):  # its gradients would make every weight NaN
                raise InputError(
                    f"training diverged in epoch {progress.epoch + 1}, step {number + 1}: the loss is "
                    f"{loss}; use a lower --lr"
                )
            if config.clip_norm:
                nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update()
            progress.step = number + 1
            progress.loss += loss
            progress.weight += weight
            within = config.checkpoint_steps and progress.step % config.checkpoint_steps == 0
            if within and progress.step < len(steps):
                progress.seconds += time.monotonic() - started
                started = time.monotonic()
                report({"epoch": progress.epoch, "step": progress.step, RANK: WITHIN_EPOCH}, state)
        with average.in_place():
            figures = evaluate(task, clips, config, device)
        progress.seconds += time.monotonic() - started
        rank_of_epoch = figures.get(task.score, float(progress.epoch + 1))
        _close_epoch(progress, figures, rank_of_epoch, len(steps), optimiser.param_groups[-1]["lr"])
        report(progress.history[-1] | {RANK: rank_of_epoch}, state)
    return progress


def gradients(
    module: nn.Module, parts: Sequence[tuple[Batch, bool]], precision: Callable[[], Any] = nullcontext
) -> tuple[float, float]:
    """Compute the gradient of the mean loss over all parts of all workers, in the parameters' ``grad``.

    parts: batches, and whether each counts (a worker without clips gets a dummy batch). Returns the summed
    loss and the summed weight over all workers.
    """
    sums = torch.zeros(2, dtype=torch.float64, device=next(module.parameters()).device)
    for number, (batch, counts) in enumerate(parts):
        is_last = number == len(parts) - 1
        no_sync = isinstance(module, DistributedDataParallel) and not is_last
        with cast(Any, module).no_sync() if no_sync else nullcontext():
            with precision():
                loss, weight = module(batch)
            (loss * float(counts)).backward()
        sums += torch.stack([loss.detach(), weight.detach()]).double() * float(counts)
    if world() > 1:
        dist.all_reduce(sums)
    loss, weight = sums.tolist()
    # DistributedDataParallel has divided by the number of workers
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad *= world() / max(weight, 1e-12)
    return loss, weight


@torch.inference_mode()
def evaluate(task: Task, clips: Clips, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Return the task's metrics on the dev clips, divided among the workers; {} without dev clips."""
    if not len(clips.dev):
        return {}
    task.module.eval()
    longest = min(round(config.max_s * task.sample_rate), task.window or 1 << 62)
    lengths = np.minimum(clips.samples[clips.dev], longest)
    budget = max(DEV_BATCH_S[device.type] * task.sample_rate, longest)
    batches = make_batches(lengths.tolist(), budget, task.same_length)
    outputs: Tensor | None = None
    for batch in batches[rank() :: world()]:
        rows = clips.dev[batch]
        audio = [floats_of(samples[:longest], device) for samples in clips.fetch(rows.tolist())]
        with autocast(config, device)():
            out = task.outputs(Batch(audio, rows, rows, np.zeros(len(rows), np.float32))).double()
        if outputs is None:
            outputs = torch.zeros(len(clips.dev), out.shape[1], dtype=torch.float64, device=device)
        outputs[batch] = out
    if world() > 1:
        widths = torch.tensor([0 if outputs is None else outputs.shape[1]], device=device)
        dist.all_reduce(widths, dist.ReduceOp.MAX)
        if outputs is None:  # more workers than batches
            outputs = torch.zeros(len(clips.dev), int(widths), dtype=torch.float64, device=device)
        dist.all_reduce(outputs)
    assert outputs is not None
    return task.metrics(outputs.float().cpu().numpy(), clips.dev)


def autocast(config: TrainConfig, device: torch.device) -> Callable[[], Any]:
    """Return a factory of autocast contexts of the configured precision; weights stay float32."""
    half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return lambda: torch.autocast(device.type, torch.bfloat16, enabled=half)


def _close_epoch(
    progress: Progress, figures: dict[str, float], reached: float, steps: int, lr: float
) -> None:
    progress.epoch += 1
    row = {"epoch": progress.epoch, "steps": steps, "loss": progress.loss / max(progress.weight, 1e-12)}
    progress.history.append(row | figures | {"lr": lr, "seconds": progress.seconds})
    if reached > progress.best:
        progress.best, progress.best_epoch = reached, progress.epoch
    progress.step, progress.loss, progress.weight, progress.seconds = 0, 0.0, 0.0, 0.0


def _has_stopped(progress: Progress, config: TrainConfig) -> bool:
    return bool(config.patience) and progress.epoch - progress.best_epoch >= config.patience


def _step_seed(seed: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, step, rank()]).generate_state(1, np.uint64)[0]) >> 1


def restore(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put saved weights into a module."""
    own = learned(module)
    for name, value in saved.items():
        own[name].copy_(value)
