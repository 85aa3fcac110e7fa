"""Audio classifiers of transformers with attention in place of the mean over time.

A folder of save_pretrained whose config.json has "frame_pooling": "attention" is of these classes; another
one is of transformers' own, which would load the first too, but ignore its pooling. The pooling is
self-attention with one hop (Lin et al. 2017, arXiv 1703.03130).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    HubertForSequenceClassification,
    PreTrainedConfig,
    Wav2Vec2ForSequenceClassification,
    WavLMForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING

from zsfuse_ray.errors import InputError

ATTENTION = "attention"  # value of frame_pooling


class AttentionPooling(nn.Module):
    """Mean over time with learned weights: (B, frames, width), (B, frames) bool or None → (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, frames: Tensor, own: Tensor | None) -> Tensor:
        scores = self.score(self.hidden(frames).tanh()).float()
        if own is not None:
            scores = scores.masked_fill(~own[..., None], -torch.inf)
        return (frames * scores.softmax(dim=1).to(frames.dtype)).sum(dim=1)


class _Attentive(nn.Module):
    """Mixed into a classifier: weighted layers → projector → attention pooling → classifier."""

    config: Any
    base_model: Any
    post_init: Any
    _get_feature_vector_attention_mask: Any
    layer_weights: nn.Parameter
    projector: nn.Module
    classifier: nn.Module

    def __init__(self, config: Any):
        super().__init__(config)
        self.pooling = AttentionPooling(config.classifier_proj_size)
        self.post_init()

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits (B, labels) of waveforms (B, samples)."""
        is_weighted = self.config.use_weighted_layer_sum
        output = self.base_model(
            input_values, attention_mask=attention_mask, output_hidden_states=is_weighted
        )
        frames = output.last_hidden_state
        if is_weighted:
            frames = torch.stack(output.hidden_states, dim=-1) @ self.layer_weights.softmax(dim=0)
        own = None
        if attention_mask is not None:
            own = self._get_feature_vector_attention_mask(frames.shape[1], attention_mask)
        return SequenceClassifierOutput(logits=self.classifier(self.pooling(self.projector(frames), own)))


class AttentiveWavLM(_Attentive, WavLMForSequenceClassification):
    """WavLM with attention pooling."""


class AttentiveHubert(_Attentive, HubertForSequenceClassification):
    """HuBERT with attention pooling."""


class AttentiveWav2Vec2(_Attentive, Wav2Vec2ForSequenceClassification):
    """wav2vec 2.0 with attention pooling."""


ATTENTIVE = {"wavlm": AttentiveWavLM, "hubert": AttentiveHubert, "wav2vec2": AttentiveWav2Vec2}


def classifier_class(config: PreTrainedConfig, name: str) -> Any:
    """Return the class of an audio classifier with this config; InputError for unknown poolings of frames."""
    pooling = getattr(config, "frame_pooling", "mean")
    if pooling == "mean":
        return MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]
    if pooling != ATTENTION or config.model_type not in ATTENTIVE:
        raise InputError(
            f"{name}: no {config.model_type} with frame_pooling {pooling!r} exists; attention pooling is for "
            f"{', '.join(ATTENTIVE)}"
        )
    return ATTENTIVE[config.model_type]
