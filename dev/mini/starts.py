"""Initial models of the shipped models' training: two networks of a million parameters on log-mels.

transformers' default initialisation suits networks three times as wide: here the specialist's convolutions
standardise the mel bands and have weights that preserve the variance.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import (
    ClapFeatureExtractor,
    ResNetConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from zsfuse_ray.audio.features import WhisperMel
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.models.checkpoints.load import quiet
from zsfuse_ray.training.clips import decoded_clip

RATE = 16_000
SAMPLED_CLIPS = 200  # for the mel statistics of the specialist's initialisation
_GAIN = 1.5  # of a convolution followed by GELU
_DB = 10 / math.log(10)  # dB per unit of natural logarithm


def write_audio_start(folder: Path) -> None:
    """Write the initial model of the ALM's audio encoder: a small ResNet on 3 s of log-mel."""
    settings = ResNetConfig(
        num_channels=1,
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        layer_type="basic",
    )
    # (ln power + 4) / 5 brings speech to about unit size; here in dB
    settings.features_mean, settings.features_std = -4 * _DB, 5 * _DB
    settings.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=RATE,
        hop_length=320,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=RATE // 2,
        max_length_s=3,
        padding="repeat",
        truncation="rand_trunc",
    ).save_pretrained(folder)


def write_specialist_start(folder: Path, clips: pa.Table, seed: int) -> None:
    """Write the initial model of the specialist: a Whisper encoder of one layer on windows of 2 s.

    clips: CLIPS; the mel statistics are of split train, the labels of all clips.
    """
    extractor = WhisperFeatureExtractor(
        feature_size=64, sampling_rate=RATE, hop_length=320, n_fft=512, chunk_length=2
    )
    labels = label_set(clips)
    settings = WhisperConfig(
        num_mel_bins=64,
        d_model=256,
        encoder_layers=1,
        encoder_attention_heads=4,
        encoder_ffn_dim=512,
        max_source_positions=50,
        classifier_proj_size=256,
        dropout=0.1,
        activation_dropout=0.1,
        init_std=0.06,  # 1 / √width
        # the decoder is neither trained nor saved; the class requires its sizes
        vocab_size=8,
        decoder_layers=1,
        decoder_attention_heads=1,
        decoder_ffn_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    mean, std = mel_statistics(extractor, clips, seed)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForAudioClassification(settings)
        standardise(model.encoder, mean, std)
        model.save_pretrained(folder)
    extractor.save_pretrained(folder)


@torch.no_grad()
def standardise(encoder: Any, mean: Tensor, std: Tensor) -> None:
    """Set a Whisper encoder's convolutions to random features of standardised mel bands.

    mean, std: (bands,) of the log-mels of the training clips. The convolutions preserve the variance; the
    sinusoidal position embeddings, of size 1, are scaled down so as not to dominate.
    """
    for layer in (encoder.conv1, encoder.conv2):
        fan_in = layer.in_channels * layer.kernel_size[0]
        nn.init.normal_(layer.weight, std=_GAIN / fan_in**0.5)
        nn.init.zeros_(layer.bias)
    first = encoder.conv1
    first.weight.div_(std[:, None])
    nn.init.normal_(first.bias, std=0.5)
    first.bias.sub_((first.weight * mean[:, None]).sum(dim=(1, 2)))
    encoder.embed_positions.weight.mul_(0.02)


def mel_statistics(extractor: Any, clips: pa.Table, seed: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (bands,) of log-mel frames over randomly drawn training clips."""
    rows = np.flatnonzero([split == "train" for split in clips["split"].to_pylist()])
    chosen = np.random.default_rng(seed).permutation(rows)[:SAMPLED_CLIPS]
    features = WhisperMel(extractor)
    frames = []
    for clip in clips.take(pa.array(chosen)).select(["uri", "start_s", "end_s"]).to_pylist():
        samples = decoded_clip(clip["uri"], clip["start_s"], clip["end_s"], RATE)[: features.window]
        filled = max(1, len(samples) // extractor.hop_length)  # the remaining frames are padding
        frames.append(features([torch.from_numpy(samples) / 32768])["input_features"][0, :, :filled])
    values = torch.cat(frames, dim=1)
    return values.mean(dim=1), values.std(dim=1)
