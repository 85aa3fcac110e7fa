"""The configs of encoders, read off their weights: a file of weights alone does not bring them.

What shapes do not tell follows the rules of the large models: attention heads are 64 wide, convolutions have
the strides 5, 2, 2, …, and an encoder of speech normalises before its layers where it normalises in every
convolution.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, WavLMConfig, XLMRobertaConfig

from zsfuse_ray.errors import InputError

Network = TypeVar("Network", bound=nn.Module)

_HEAD = 64  # width of an attention head


class Sizes:
    """The shapes of the weights whose names begin with a prefix. name, family: for messages."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, family: str, prefix: str = ""):
        self._weights, self._prefix, self._refusal = weights, prefix, f"{name}: no {family} checkpoint"

    def of(self, key: str, dimensions: int) -> tuple[int, ...]:
        """Return a weight's shape; InputError where it is missing, empty, or of other dimensions."""
        weight = self._weights.get(self._prefix + key)
        if weight is None:
            raise InputError(f"{self._refusal}: it lacks {self._prefix}{key}")
        if weight.ndim != dimensions or not weight.numel():
            raise InputError(
                f"{self._refusal}: {self._prefix}{key} is of shape {list(weight.shape)}, "
                f"expected {dimensions} dimensions"
            )
        return tuple(weight.shape)

    def has(self, key: str) -> bool:
        """Return whether there is such a weight."""
        return self._prefix + key in self._weights

    def count(self, pattern: str) -> int:
        """Return how many weights there are whose names are the pattern with 0, 1, 2, … in its braces."""
        number = 0
        while self.has(pattern.format(number)):
            number += 1
        return number

    def split(self, channels: int, width: int) -> int:
        """Return how many groups of a width the channels are; InputError where they are no whole number."""
        if channels % width:
            raise InputError(f"{self._refusal}: it has {channels} channels, expected a multiple of {width}")
        return channels // width

    def build(self, make: Callable[[], Network]) -> Network:
        """Return the network that `make` gives, its weights yet to be filled in: none is drawn at random."""
        try:
            with torch.device("meta"):
                network = make()
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            raise InputError(f"{self._refusal}: its sizes do not fit together: {error}") from error
        return network.to_empty(device="cpu")


def speech_config(sizes: Sizes, config_class: Any) -> PreTrainedConfig:
    """Return the config of an encoder, a Wav2Vec2Config or a WavLMConfig; nothing is masked in training."""
    convolutions = range(max(1, sizes.count("feature_extractor.conv_layers.{}.conv.weight")))
    kernels = [sizes.of(f"feature_extractor.conv_layers.{i}.conv.weight", 3) for i in convolutions]
    hidden, group, reach = sizes.of("encoder.pos_conv_embed.conv.parametrizations.weight.original1", 3)
    normalises_all = sizes.has("feature_extractor.conv_layers.1.layer_norm.weight")
    own: dict[str, Any] = {}
    if config_class is WavLMConfig:
        own = {"num_buckets": sizes.of("encoder.layers.0.attention.rel_attn_embed.weight", 2)[0]}
    return config_class(
        hidden_size=hidden,
        num_hidden_layers=sizes.count("encoder.layers.{}.layer_norm.weight"),
        num_attention_heads=sizes.split(hidden, _HEAD),
        intermediate_size=sizes.of("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        conv_dim=[kernel[0] for kernel in kernels],
        conv_kernel=[kernel[2] for kernel in kernels],
        conv_stride=[5 if i == 0 else 2 for i in convolutions],
        conv_bias=sizes.has("feature_extractor.conv_layers.0.conv.bias"),
        feat_extract_norm="layer" if normalises_all else "group",
        do_stable_layer_norm=normalises_all,
        num_conv_pos_embeddings=reach,
        num_conv_pos_embedding_groups=sizes.split(hidden, group),
        mask_time_prob=0.0,
        **own,
    )


def text_config(sizes: Sizes, config_class: Any) -> PreTrainedConfig:
    """Return the config of an encoder, a BertConfig or an XLMRobertaConfig.

    Each has its own padding token and epsilon.
    """
    words, hidden = sizes.of("embeddings.word_embeddings.weight", 2)
    own: dict[str, Any] = {"pad_token_id": 0, "layer_norm_eps": 1e-12}
    if config_class is XLMRobertaConfig:
        own = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
    return config_class(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=sizes.count("encoder.layer.{}.intermediate.dense.weight"),
        num_attention_heads=sizes.split(hidden, _HEAD),
        intermediate_size=sizes.of("encoder.layer.0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=sizes.of("embeddings.position_embeddings.weight", 2)[0],
        type_vocab_size=sizes.of("embeddings.token_type_embeddings.weight", 2)[0],
        **own,
    )
