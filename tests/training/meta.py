"""Specialists of full size on torch's meta device: shapes, gradients and optimisers without numbers.

ENCODERS has the sizes of the published encoders, by the names of their recipes; their weights are not needed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import HubertConfig, Wav2Vec2FeatureExtractor, WavLMConfig

from tests.training.training_support import EMOTIONS, RATE, config_of, table_of
from zsfuse_ray.config.options import PRESETS, read_yaml
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.training.specialist import Specialist
from zsfuse_ray.training.task import Batch

_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
# configuration, weights of the encoder in millions
ENCODERS: dict[str, tuple[Any, float]] = {
    "wavlm-base-plus": (WavLMConfig(), 94.4),
    "wavlm-large": (WavLMConfig(**_LARGE), 315.5),
    "hubert-base-ls960": (HubertConfig(), 94.4),
    "hubert-large-ll60k": (HubertConfig(**_LARGE, conv_bias=True), 315.4),
}


def recipe(name: str) -> dict[str, Any]:
    """The options of a preset of ``zsfuse train``, without --init."""
    values = read_yaml(TrainConfig, (PRESETS / "train" / f"{name}.yaml").read_text(), name)
    return {key: value for key, value in values.items() if key != "init"}


def meta_specialist(name: str, folder: Path, **options: Any) -> Specialist:
    """A specialist over EMOTIONS in training on the meta device, by the recipe of ENCODERS' name and options.

    Its feature encoder is frozen, as it is with trained weights; class weights, which need numbers, are not
    balanced. folder: an empty one.
    """
    encoder, _ = ENCODERS[name]
    encoder.save_pretrained(folder)
    is_masked = name == "wavlm-large"  # transformers' HuBERT branches on the values of a mask
    Wav2Vec2FeatureExtractor(return_attention_mask=is_masked).save_pretrained(folder)
    given: dict[str, Any] = recipe(name) | {"freeze": "features", "class_weights": "none"} | options
    with torch.device("meta"):
        task = Specialist(config_of(folder, **given), table_of([EMOTIONS[i % 3] for i in range(6)]))
        task.module.features.to("meta")
    task.module.train()
    return task


def meta_batch(seconds: Sequence[float] = (1.0, 1.0)) -> Batch:
    """Clips without numbers, the first ones of the table of `meta_specialist`."""
    rows = np.arange(len(seconds))
    clips = [torch.empty(round(s * RATE), device="meta") for s in seconds]
    return Batch(clips, rows, rows, np.zeros(len(rows), np.float32))


def logits_and_vectors(task: Specialist, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (clips, labels), and the vectors (clips, width) that the last linear layer reads."""
    vectors: list[Tensor] = []
    head: nn.Module = task.module.model.classifier
    hook = head.register_forward_pre_hook(lambda _, inputs: vectors.append(inputs[0]))
    try:
        return task.module.logits(batch), vectors[0]
    finally:
        hook.remove()
