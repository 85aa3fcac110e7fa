"""Specialists: any audio classifier of transformers fine-tuned for emotion.

The vector is the input of the class' `classifier`: for AST the mean of its two leading tokens, for Wav2Vec2,
HuBERT, WavLM, Wav2Vec2-BERT, Whisper and similar models the projected states averaged over time, or pooled by
attention if `zsfuse train` trained it so.
"""

import re
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AutoConfig, AutoFeatureExtractor
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from zsfuse_ray.audio.features import FRONT_ENDS, Waveforms
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.about import About
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part
from zsfuse_ray.models.networks.attentive import classifier_class
from zsfuse_ray.models.networks.speech import heeds_mask, receptive_field


class Classifier:
    """Audio → logits over the checkpoint's own labels; a `Specialist`.

    Raises InputError for a checkpoint that is missing, of another class, or without label names.
    """

    about = About(
        rate="16 kHz",
        window="none, 30 s with Whisper, 10 s with AST",
        dim="its labels",
        licence="the checkpoint's own",
        checkpoints=("superb/hubert-large-superb-er", "superb/wav2vec2-base-superb-er"),
    )
    kind: Literal["specialist"] = "specialist"
    fill: Literal["none"] = "none"

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        self.labels = _labels(source)
        source = download(source)
        self.revision, self.licence, self.trained_on = source.revision, source.licence, source.trained_on
        self.device, self.dtype = torch.device(device), dtype

        extractor = load_part(AutoFeatureExtractor, source)
        name = type(extractor).__name__
        if name not in FRONT_ENDS:
            raise InputError(f"{checkpoint}: unsupported feature extractor {name}{nearest(name, FRONT_ENDS)}")
        self._features = FRONT_ENDS[name](extractor).to(self.device)
        self.sample_rate: int = extractor.sampling_rate
        self.window: int | None = self._features.window

        network = classifier_class(load_part(AutoConfig, source), checkpoint)
        self._model = load_model(network, source, self.device)
        # The head is removed from the network and applied in `classify`, so one pass gives both outputs.
        self._head, self._model.classifier = self._model.classifier, nn.Identity()
        self.vector_dim: int | None = inputs_of(self._head)
        config = self._model.config
        if _weighs_last_normalised(source.config):
            config.tie_last_hidden_states = True
        self._shortest = max(self._features.minimum, receptive_field(config))
        self.same_length = isinstance(self._features, Waveforms) and not (
            self._features.masked and heeds_mask(config)
        )

    @torch.inference_mode()
    def classify(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return logits and vectors, see `Specialist.classify`.

        A clip too short for the model's first layers is zero-padded.
        """
        long_enough = [pad(c.to(self.device), (0, max(0, self._shortest - len(c)))) for c in clips]
        inputs = self._features(long_enough)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            vectors = self._model(**inputs).logits
            return self._head(vectors).float(), vectors.float()


def inputs_of(head: nn.Module) -> int:
    """Return the input size of a head: that of its first linear layer."""
    return next(layer.in_features for layer in head.modules() if isinstance(layer, nn.Linear))


def _labels(source: Checkpoint) -> tuple[str, ...]:
    """Return the label names in the order of the logits, from config.json."""
    config, name = source.config, source.path_or_id
    model_type = config.get("model_type")
    if model_type not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        known = ", ".join(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES)
        raise InputError(
            f"{name} is not an audio classifier: config.json has model_type {model_type!r}, "
            f"expected one of {known}"
        )
    if config.get("problem_type") in ("regression", "multi_label_classification"):
        raise InputError(
            f"{name} is trained for {config['problem_type']}; a specialist has one label per clip"
        )
    labels = label_names(source)
    if len(labels) < 2 or all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        raise InputError(
            f"{name} has no label names (id2label in config.json); fine-tune it, or add the names there"
        )
    return labels


def label_names(source: Checkpoint) -> tuple[str, ...]:
    """Return the names of the outputs in config.json, in their order; empty if it has none."""
    id2label = source.config.get("id2label") or {}
    try:
        return tuple(str(id2label[key]) for key in sorted(id2label, key=int))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{source.path_or_id}: the keys of id2label in config.json must be numbers"
        ) from error


def _weighs_last_normalised(config: dict[str, Any]) -> bool:
    """Return whether a classifier with a weighted layer sum was trained on the normalised last layer.

    That is the behaviour up to transformers 5.15, used to train superb/hubert-large-superb-er and others;
    later versions use the state before the final normalisation, unless the config sets otherwise.
    """
    written_by = re.match(r"(\d+)\.(\d+)", str(config.get("transformers_version")))
    is_old = written_by is None or tuple(map(int, written_by.groups())) < (5, 16)
    return (
        is_old
        and config.get("tie_last_hidden_states") is None
        and bool(config.get("use_weighted_layer_sum"))
        and bool(config.get("do_stable_layer_norm"))
    )
