"""Configs of encoders, inferred from their weights: a single file of weights has no config.

Settings that shapes do not determine follow the published models: attention heads have width 64, convolutions
have strides 5, 2, 2, …, and a speech encoder normalises before its layers if it normalises in every
convolution.
"""

from typing import Any

from transformers import BertConfig, PreTrainedConfig, WavLMConfig, WhisperConfig

from zsfuse_ray.models.networks.sizes import Sizes

HEAD = 64  # width of an attention head


def speech_config(sizes: Sizes, config_class: Any) -> PreTrainedConfig:
    """Return the config of an encoder, a Wav2Vec2Config or a WavLMConfig, without masking in training."""
    convolutions = range(max(1, sizes.count("feature_extractor.conv_layers.{}.conv.weight")))
    kernels = [sizes.of(f"feature_extractor.conv_layers.{i}.conv.weight", 3) for i in convolutions]
    hidden, group, reach = sizes.of("encoder.pos_conv_embed.conv.parametrizations.weight.original1", 3)
    normalises_all = sizes.has("feature_extractor.conv_layers.1.layer_norm.weight")
    own: dict[str, Any] = {}
    if config_class is WavLMConfig:
        own["num_buckets"], heads = sizes.of("encoder.layers.0.attention.rel_attn_embed.weight", 2)
    else:
        heads = sizes.split(hidden, HEAD)
    return config_class(
        hidden_size=hidden,
        num_hidden_layers=sizes.count("encoder.layers.{}.layer_norm.weight"),
        num_attention_heads=heads,
        intermediate_size=sizes.of("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        conv_dim=[kernel[0] for kernel in kernels],
        conv_kernel=[kernel[2] for kernel in kernels],
        conv_stride=[5 if i == 0 else 2 for i in convolutions],
        conv_bias=sizes.has("feature_extractor.conv_layers.0.conv.bias"),
        feat_extract_norm="layer" if normalises_all else "group",
        do_stable_layer_norm=normalises_all,
        num_conv_pos_embeddings=reach,
        num_conv_pos_embedding_groups=sizes.split(hidden, group),
        mask_time_prob=0.0,  # otherwise a mask embedding is required
        **own,
    )


def whisper_config(sizes: Sizes, positions: int) -> WhisperConfig:
    """Return the config of a Whisper whose encoder has so many positions, of 20 ms each."""
    width, bins, _ = sizes.of("conv1.weight", 3)
    return WhisperConfig(
        d_model=width,
        num_mel_bins=bins,
        encoder_layers=sizes.count("layers.{}.fc1.weight"),
        encoder_attention_heads=max(1, width // HEAD),
        encoder_ffn_dim=sizes.of("layers.0.fc1.weight", 2)[0],
        max_source_positions=positions,
    )


def text_config(sizes: Sizes, config_class: Any) -> PreTrainedConfig:
    """Return the config of an encoder: a BertConfig, or RoBERTa's XLMRobertaConfig or ClapTextConfig.

    BERT and RoBERTa have different special tokens and epsilons.
    """
    words, hidden = sizes.of("embeddings.word_embeddings.weight", 2)
    own: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
    if config_class is BertConfig:
        own = {"pad_token_id": 0, "layer_norm_eps": 1e-12}
    return config_class(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=sizes.count("encoder.layer.{}.intermediate.dense.weight"),
        num_attention_heads=sizes.split(hidden, HEAD),
        intermediate_size=sizes.of("encoder.layer.0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=sizes.of("embeddings.position_embeddings.weight", 2)[0],
        type_vocab_size=sizes.of("embeddings.token_type_embeddings.weight", 2)[0],
        **own,
    )
