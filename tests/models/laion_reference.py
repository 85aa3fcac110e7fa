"""Files in LAION's own format with random weights, and laion-clap itself as the reference."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ClapConfig

from tests.models.seeded_weights import seeded_state
from zsfuse_ray.models.families.laion_package import _module
from zsfuse_ray.models.untrained import byte_tokenizer

FILE = "630k-random.pt"
# State of the package's networks that training does not change.
_FIXED = r"spectrogram_extractor|logmel_extractor|attn_mask|_index$|num_batches"


_SMALL = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]}


def package(network: str = "HTSAT-tiny", fusion: bool = False, small: bool = False) -> Any:
    """Return the package's CLAP_Module with a small RoBERTa, and the original or a small audio encoder."""
    text = {"vocab_size": 261, "hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12}
    text |= {"intermediate_size": 64, "layer_norm_eps": 1e-5}
    config = ClapConfig(text_config=text, audio_config={"enable_fusion": fusion})
    module = _module(config, network, byte_tokenizer())
    if small:
        htsat = type(module.model.audio_branch)
        options = {"enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else "None"}
        module.model.audio_branch = htsat(config=module.model.audio_cfg, **_SMALL, **options)
        module.model.audio_projection[0] = torch.nn.Linear(128, 512)
    return module.eval()


def random_state(module: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return weights for a CLAP_Module that give different embeddings for different clips and texts."""
    state = module.model.state_dict()
    shapes = {key: value.shape for key, value in state.items() if not re.search(_FIXED, key)}
    state = {**state, **seeded_state(shapes, seed)}
    # Statistics of speech in decibels, as after training.
    state["audio_branch.bn0.running_mean"] -= 40
    state["audio_branch.bn0.running_var"] *= 300
    for key in state:
        if re.match(r"text_branch\.embeddings\.\w+_embeddings", key):
            state[key] = 0.1 * state[key]  # small, so that the epsilon of the next normalisation matters
    return state


def write(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """Write a file in the format of LAION's training, and a tokenizer beside it."""
    positions = {"text_branch.embeddings.position_ids": torch.arange(514)[None]}
    content = {
        "epoch": 45,
        "name": "random",
        "state_dict": {f"module.{key}": value for key, value in (state | positions).items()},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": np.float64(1e-4)}]},
    }
    torch.save(content, folder / FILE)
    byte_tokenizer().save_pretrained(folder)
    return folder / FILE
