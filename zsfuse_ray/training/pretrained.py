"""The audio classifier that a training starts from: pretrained weights with a new head, or random weights."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from zsfuse_ray.audio.features import FRONT_ENDS, Waveforms
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import check_finite, download, load_part
from zsfuse_ray.models.networks.attentive import ATTENTION, classifier_class
from zsfuse_ray.training.encoders import POOLED, speech_encoder

# Parameter names in transformers' audio classifiers: the head on top of the layers, and the feature encoder
# in front of the first layer.
HEAD = ("projector.", "pooling.", "classifier.", "layer_weights")
FEATURES = ("feature_extractor.", "patch_embeddings.", "encoder.conv1.", "encoder.conv2.")


def start_of(config: TrainConfig) -> Checkpoint:
    """Return the --init checkpoint; InputError if transformers has no audio classifier of its type."""
    family, colon, name = config.init.partition(":")
    checkpoint = speech_encoder(resolve(name if colon and family in ("classifier", POOLED) else config.init))
    model_type = checkpoint.config.get("model_type")
    if model_type not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        hint = nearest(str(model_type), MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES)
        raise InputError(f"{config.init}: no audio classifier of model_type {model_type!r} exists{hint}")
    return checkpoint


def extractor_of(checkpoint: Checkpoint, config: TrainConfig) -> Any:
    """Return the feature extractor; InputError if unsupported, or for --frequency-masks on waveforms."""
    extractor = load_part(AutoFeatureExtractor, download(checkpoint))
    name = type(extractor).__name__
    if name not in FRONT_ENDS:
        raise InputError(
            f"{checkpoint.path_or_id}: feature extractor {name} is not supported{nearest(name, FRONT_ENDS)}"
        )
    if config.frequency_masks and FRONT_ENDS[name] is Waveforms:
        raise InputError(
            f"--frequency-masks: the input of {checkpoint.path_or_id} is waveforms, without bands; use 0"
        )
    return extractor


def model_of(checkpoint: Checkpoint, config: TrainConfig, labels: tuple[str, ...], trained: bool) -> Any:
    """Return the classifier over the labels in float32: pretrained weights and a new head, or all random."""
    settings = load_part(AutoConfig, checkpoint)
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: i for i, label in enumerate(labels)}
    settings.problem_type = None
    if config.weighted_layers:
        if not hasattr(settings, "use_weighted_layer_sum"):
            raise InputError(f"--weighted-layers: {settings.model_type} has no weighted sum of its layers")
        settings.use_weighted_layer_sum = True
    if config.attention_pooling:
        settings.frame_pooling = ATTENTION
    quieten(settings)
    network = classifier_class(settings, checkpoint.path_or_id)
    if not trained:
        return network._from_config(settings, dtype=torch.float32)
    model, report = load_part(
        network,
        checkpoint,
        config=settings,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if "layer_weights" in report["missing_keys"]:  # transformers leaves them uninitialised
        nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    named = dict(model.named_parameters())
    lost = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])} & set(named)
    lost = sorted(n for n in lost if not n.startswith(HEAD) and "masked_spec_embed" not in n)
    if lost:
        raise InputError(
            f"{checkpoint.path_or_id}: the weights lack {lost[0]} ({len(lost)} missing in all), "
            f"so it is not a {type(model).__name__}"
        )
    check_finite(model, checkpoint.path_or_id)
    return model


def quieten(settings: Any) -> None:
    """Disable random masks and layer drop in a model's config, and on a CPU attention dropout.

    Masks come from augmentation, drawn from a clip's own seed; dropped layers would differ between workers;
    attention with dropout has no fast path on a CPU.
    """
    quiet_values = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0}
    if not torch.cuda.is_available():
        quiet_values |= {"attention_dropout": 0.0, "attention_probs_dropout_prob": 0.0}
    for name, value in quiet_values.items():
        if hasattr(settings, name):
            setattr(settings, name, value)


def freeze(model: nn.Module, what: str, trained: bool) -> None:
    """Freeze the part that --freeze names."""
    for name, parameter in model.named_parameters():
        is_feature = any(part in name for part in FEATURES)
        frozen = {
            "auto": trained and is_feature,
            "nothing": False,
            "features": is_feature,
            "encoder": not name.startswith(HEAD),
        }[what]
        if frozen or "masked_spec_embed" in name:  # unused, as masks come from augmentation
            parameter.requires_grad = False
