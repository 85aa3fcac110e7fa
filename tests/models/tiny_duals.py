"""Tiny dual encoders with random weights, one for every kind of audio and text encoder."""

from pathlib import Path

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    BertConfig,
    ClapAudioConfig,
    ClapFeatureExtractor,
    ClapTextConfig,
    MPNetConfig,
    ResNetConfig,
    RobertaConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from tests.models.tiny_models import CONVOLUTIONS, SIZE, WHISPER
from zsfuse_ray.models.networks.dual import DualConfig, DualNetwork
from zsfuse_ray.models.untrained import byte_tokenizer

_HTSAT = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_size": 8,
    "patch_stride": [8, 8],
    "patch_embeds_hidden_size": 16,
    "hidden_size": 32,
    "depths": [1, 1],
    "num_attention_heads": [1, 2],
    "window_size": 4,
    "projection_dim": 8,
}


def _resnet():
    return ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )


# name -> (config of the audio encoder, feature extractor)
AUDIO = {
    "wav2vec2": lambda: (
        Wav2Vec2Config(
            **SIZE, **CONVOLUTIONS, feat_extract_norm="layer", do_stable_layer_norm=True
        ),
        Wav2Vec2FeatureExtractor(return_attention_mask=False),  # like ParaCLAP's: the mask is used anyway
    ),
    "wav2vec2-group": lambda: (
        Wav2Vec2Config(**SIZE, **CONVOLUTIONS, feat_extract_norm="group"),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "wav2vec2-bert": lambda: (
        Wav2Vec2BertConfig(**SIZE, conv_depthwise_kernel_size=5),
        SeamlessM4TFeatureExtractor(),
    ),
    "whisper": lambda: (WhisperConfig(**WHISPER), WhisperFeatureExtractor(chunk_length=2)),
    "ast": lambda: (
        ASTConfig(**SIZE, max_length=200, num_mel_bins=64),
        ASTFeatureExtractor(max_length=200, num_mel_bins=64),
    ),
    "htsat": lambda: (
        ClapAudioConfig(**_HTSAT),
        ClapFeatureExtractor(
            feature_size=16, sampling_rate=16000, max_length_s=2, fft_window_size=512, hop_length=160,
            frequency_min=50, frequency_max=8000, truncation="rand_trunc",
        ),
    ),
    "resnet-kaldi": lambda: (
        _resnet(),
        SeamlessM4TFeatureExtractor(feature_size=32, num_mel_bins=32, stride=1),
    ),
    "resnet-ast": lambda: (_resnet(), ASTFeatureExtractor(max_length=200, num_mel_bins=32)),
    "resnet-clap": lambda: (
        _resnet(),
        ClapFeatureExtractor(
            feature_size=32, sampling_rate=16000, max_length_s=2, fft_window_size=512, hop_length=160,
            frequency_min=50, frequency_max=8000, truncation="rand_trunc",
        ),
    ),
}  # fmt: skip

_TEXT = {**SIZE, "vocab_size": 261, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
TEXT = {
    "bert": lambda: BertConfig(**_TEXT),
    "roberta": lambda: RobertaConfig(**_TEXT),
    "clap": lambda: ClapTextConfig(**_TEXT),
    "mpnet": lambda: MPNetConfig(**_TEXT),
}


def write_dual(folder: Path, audio: str, text: str, **options) -> DualNetwork:
    """Write the folder of a dual encoder; return its network."""
    torch.manual_seed(0)
    audio_config, extractor = AUDIO[audio]()
    config = DualConfig(
        audio_config=audio_config, text_config=TEXT[text](), **{"projection_dim": 16, **options}
    )
    network = DualNetwork(config)
    for part in (network, extractor, byte_tokenizer()):
        part.save_pretrained(folder)
    return network.eval()
