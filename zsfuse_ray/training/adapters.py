"""Low-rank adapters (LoRA, Hu et al. 2022) through peft, which is imported only where they are asked for."""

import copy
from typing import Any

from torch import nn

from zsfuse_ray.errors import InputError
from zsfuse_ray.training.optimiser import in_layer


def add_lora(model: nn.Module, rank: int, alpha: float, head: tuple[str, ...]) -> Any:
    """Put adapters on the linear maps of the model's layers, in place; they and the head alone learn.

    Returns peft's view of the model, for ``merged``. Raises InputError where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("--lora-rank needs peft: pip install 'zsfuse-ray[lora]'") from None
    head_parts = [p for name, p in model.named_parameters() if name.startswith(head) and p.requires_grad]
    # WavLM hands the weights of its projections to a fused function, past any adapter on them
    past = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if hasattr(module, "torch_multi_head_self_attention")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    linear = [
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and in_layer(f"{n}.") and n not in past
    ]
    if not linear:
        raise InputError(f"--lora-rank: {type(model).__name__} has no layers that adapters could sit on")
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear))  # pyright: ignore
    for parameter in head_parts:
        parameter.requires_grad = True
    return adapted


def merged(adapted: Any) -> Any:
    """Return a copy of the model with its adapters added to the weights."""
    return copy.deepcopy(adapted).merge_and_unload()
