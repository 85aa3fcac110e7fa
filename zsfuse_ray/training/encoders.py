"""The encoders of a pooled model as checkpoints of stock classes, which trainings start from."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import cast

from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    PreTrainedModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part, quiet
from zsfuse_ray.models.networks.pooled import PooledNetwork
from zsfuse_ray.models.temporary import written_once

POOLED = "pooled"  # model_type in config.json
WINDOW_S = 5  # of the speech encoder: a shorter clip costs as much, a longer one is averaged over windows
_Write = Callable[[Path, Checkpoint, PooledNetwork], None]


def speech_encoder(checkpoint: Checkpoint) -> Checkpoint:
    """Return the speech encoder of a pooled model as a Whisper classifier; another checkpoint unchanged."""
    return _part(checkpoint, "speech", _write_speech)


def text_encoder(checkpoint: Checkpoint) -> Checkpoint:
    """Return the text encoder of a pooled model; another checkpoint unchanged."""
    return _part(checkpoint, "text", _write_text)


def _part(checkpoint: Checkpoint, name: str, write: _Write) -> Checkpoint:
    if checkpoint.config.get("model_type") != POOLED:
        return checkpoint
    source = download(checkpoint)
    recipe = sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    place = written_once(
        f"{name}-{source.revision}-{recipe}",
        lambda folder: write(folder, source, load_model(PooledNetwork, source, "cpu")),
    )
    # the name, the licence and the data are those of the whole model
    return replace(source, folder=place, config=resolve(str(place)).config)


def _write_speech(folder: Path, source: Checkpoint, network: PooledNetwork) -> None:
    settings = WhisperConfig.from_dict(network.trunk.config.to_dict())
    whole = load_part(AutoFeatureExtractor, source)
    window_s = min(WINDOW_S, whole.chunk_length)
    settings.max_source_positions = settings.max_source_positions * window_s // whole.chunk_length
    settings.classifier_proj_size = settings.d_model
    # transformers builds a decoder too before it takes the encoder
    settings.decoder_layers, settings.decoder_attention_heads = 0, settings.encoder_attention_heads
    weights = {f"encoder.{name}": value for name, value in network.trunk.state_dict().items()}
    positions = "encoder.embed_positions.weight"
    weights[positions] = weights[positions][: settings.max_source_positions].clone()
    with quiet():
        model = WhisperForAudioClassification(settings)
        model.load_state_dict(weights, strict=False)  # the head is new
        model.save_pretrained(folder)
        WhisperFeatureExtractor(feature_size=whole.feature_size, chunk_length=window_s).save_pretrained(
            folder
        )


def _write_text(folder: Path, source: Checkpoint, network: PooledNetwork) -> None:
    with quiet():
        cast(PreTrainedModel, network.text_model).save_pretrained(folder)
        load_part(AutoTokenizer, source).save_pretrained(folder)
