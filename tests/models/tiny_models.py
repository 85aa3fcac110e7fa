"""Tiny classifiers with random weights, one of every family, and test input."""

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

LABELS = ("neutral", "happy", "sad")

# Weights large enough for outputs to differ between clips.
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
}
CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 8,
    "pad_token_id": 0,
    "max_source_positions": 100,
    "init_std": 0.3,
}
_NAMES = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: i for i, label in enumerate(LABELS)},
}
_HEAD = {**_NAMES, "classifier_proj_size": 16}
CLASSIFIER_OF = {
    "layer": {**SIZE, **CONVOLUTIONS, **_HEAD, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
    "group": {**SIZE, **CONVOLUTIONS, **_HEAD, "feat_extract_norm": "group"},
    "bert": {**SIZE, **_HEAD, "conv_depthwise_kernel_size": 5},
    "whisper": {**WHISPER, **_HEAD, "use_weighted_layer_sum": True},
    "ast": {**SIZE, **_NAMES},
}

FAMILIES = {
    "wav2vec2": lambda: (
        Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**CLASSIFIER_OF["layer"])),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "wav2vec2-group": lambda: (
        Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**CLASSIFIER_OF["group"])),
        Wav2Vec2FeatureExtractor(return_attention_mask=False),
    ),
    "hubert": lambda: (
        HubertForSequenceClassification(HubertConfig(**CLASSIFIER_OF["layer"], use_weighted_layer_sum=True)),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "wavlm": lambda: (
        WavLMForSequenceClassification(WavLMConfig(**CLASSIFIER_OF["layer"])),
        Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False),
    ),
    "whisper": lambda: (
        WhisperForAudioClassification(WhisperConfig(**CLASSIFIER_OF["whisper"])),
        WhisperFeatureExtractor(chunk_length=2),
    ),
    "ast": lambda: (
        ASTForAudioClassification(ASTConfig(**CLASSIFIER_OF["ast"], max_length=200, num_mel_bins=64)),
        ASTFeatureExtractor(max_length=200, num_mel_bins=64),
    ),
    "wav2vec2-bert": lambda: (
        Wav2Vec2BertForSequenceClassification(Wav2Vec2BertConfig(**CLASSIFIER_OF["bert"])),
        SeamlessM4TFeatureExtractor(),
    ),
    "wav2vec2-bert-stride-4": lambda: (
        Wav2Vec2BertForSequenceClassification(
            Wav2Vec2BertConfig(**CLASSIFIER_OF["bert"], feature_projection_input_dim=160)
        ),
        SeamlessM4TFeatureExtractor(feature_size=40, num_mel_bins=40, stride=4),
    ),
}


def speechlike(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    """Return noise with a slow envelope."""
    samples = int(seconds * rate)
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * (1 + torch.sin(torch.arange(samples) / rate * (5 + seed)))
