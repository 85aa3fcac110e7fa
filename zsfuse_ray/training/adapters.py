"""Low-rank adapters (LoRA, Hu et al. 2022) from peft, which is imported only if --lora-rank is set."""

import copy
from typing import Any

from torch import nn

from zsfuse_ray.errors import InputError
from zsfuse_ray.training.optimiser import in_layer


def add_lora(model: nn.Module, rank: int, alpha: float, head: tuple[str, ...]) -> Any:
    """Add adapters to the linear maps of the model's layers, in place; only they and the head are trained.

    Returns peft's wrapper of the model, for ``merged``. Raises InputError if peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("--lora-rank needs peft: pip install 'zsfuse-ray[lora]'") from None
    head_parts = [p for name, p in model.named_parameters() if name.startswith(head) and p.requires_grad]
    # WavLM passes its projections' weights to a fused function, which bypasses adapters on them
    bypassed = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if hasattr(module, "torch_multi_head_self_attention")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    linear = [
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and in_layer(f"{n}.") and n not in bypassed
    ]
    if not linear:
        raise InputError(f"--lora-rank: {type(model).__name__} has no layers to add adapters to")
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear))  # pyright: ignore
    for parameter in head_parts:
        parameter.requires_grad = True
    return adapted


def merged(adapted: Any) -> Any:
    """Return a copy of the model with its adapters added to the weights."""
    return copy.deepcopy(adapted).merge_and_unload()
