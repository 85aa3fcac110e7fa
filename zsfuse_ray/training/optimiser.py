"""AdamW's parameter groups with layer-wise learning rates, the schedule, and weight averaging."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_LAYER = re.compile(r"\b(?:layers?|blocks?)\.(\d+)\.")


def in_layer(name: str) -> bool:
    """Whether a parameter belongs to one of the numbered layers."""
    return _LAYER.search(name) is not None and "conv_layers" not in name


def depths(names: list[str], head: tuple[str, ...]) -> dict[str, int]:
    """Return each parameter's depth: 0 before the layers, i + 1 in layer i, then the head.

    names: of all parameters; those starting with one of ``head`` belong to the head. The numbered stack,
    such as encoder.layers.N, sets the depth; a feature extractor's convolutions have depth 0.
    """
    height = {}
    for name in names:
        number = _LAYER.search(name)
        height[name] = int(number.group(1)) + 1 if number and in_layer(name) else 0
    top = max(height.values(), default=0) + 1
    # a final norm after the last layer has the last layer's rate
    last = {n: top - 1 for n in names if not height[n] and re.search(r"encoder\.(layer_?norm|norm)\b", n)}
    return height | last | {name: top for name in names if name.startswith(head)}


def layerwise_groups(
    module: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    head: tuple[str, ...] = (),
    head_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Return AdamW groups of the trainable parameters.

    A layer's rate is ``layer_decay`` times that of the one above it; the head has ``head_lr`` (default
    ``lr``), the last layer ``lr``. Biases, norms and other vectors get no weight decay.
    """
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    height = depths([n for n, _ in module.named_parameters()], head)
    top = max(height.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        steps_down = max(0, top - 1 - height[name])
        rate = (head_lr or lr) if name.startswith(head) and head else lr * layer_decay**steps_down
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def lr_factor(progress: float, warmup: float, final: float) -> float:
    """Return the learning rate relative to its peak: linear warm-up, then cosine decay to ``final``.

    progress and warmup are fractions of the whole training.
    """
    if progress < warmup:
        return progress / warmup
    done = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Average:
    """Exponential moving average of trainable parameters and float buffers; decay 0 disables it.

    The decay is min(decay, (1 + steps) / (10 + steps)), so that the random initial weights are forgotten
    quickly.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = module, decay
        self.steps = 0
        self.values = {name: t.detach().clone() for name, t in learned(module).items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Add the module's weights after a step."""
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in learned(self.module).items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)

    def restore(self, values: dict[str, Tensor], steps: int) -> None:
        """Resume from a checkpoint's average."""
        self.steps = steps
        for name, value in values.items():
            self.values[name].copy_(value)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Swap the average into the module within the context."""
        own = learned(self.module)
        kept = {name: own[name].clone() for name in self.values}
        for name, value in self.values.items():
            own[name].copy_(value)
        try:
            yield
        finally:
            for name, value in kept.items():
                own[name].copy_(value)


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and persistent buffers: the content of a checkpoint."""
    saved = module.state_dict(keep_vars=True)
    return {
        name: t.detach()
        for name, t in saved.items()
        if isinstance(t, Tensor) and (t.requires_grad or not isinstance(t, nn.Parameter))
    }
