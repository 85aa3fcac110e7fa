"""The ALM that a contrastive training starts from: pretrained, random, or built from two encoders."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoTokenizer,
    ClapModel,
)

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import Checkpoint, has_weights, resolve
from zsfuse_ray.models.checkpoints.load import check_finite, download, load_part, quiet
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.families.dual import DUAL_FRONT_ENDS, Dual
from zsfuse_ray.models.networks.dual import ENCODERS, DualConfig, DualNetwork
from zsfuse_ray.training.encoders import POOLED, speech_encoder, text_encoder
from zsfuse_ray.training.pretrained import quieten

_FAMILIES: dict[str, Any] = {"clap": (Clap, ClapModel), "dual": (Dual, DualNetwork)}


def check_start(config: TrainConfig) -> int:
    """Return the sample rate in Hz of the model of `start`; InputError for an invalid --init or --text."""
    checkpoint = audio_start(config)
    model_type = checkpoint.config.get("model_type")
    if model_type in _FAMILIES:
        if config.text:
            raise InputError(f"omit --text {config.text}: {config.init} is an ALM and has a text encoder")
    else:
        text = text_start(config)
        if text is None:
            raise InputError(
                f"{config.init} is no ALM (model_type {model_type!r} in its config.json); to use it as the "
                "audio encoder of a new ALM, give a text encoder with --text MODEL"
            )
        for name, start in ((config.init, checkpoint), (text.path_or_id, text)):
            model_type = start.config.get("model_type")
            if model_type not in CONFIG_MAPPING:
                raise InputError(
                    f"{name}: transformers has no model_type {model_type!r}"
                    f"{nearest(str(model_type), CONFIG_MAPPING)}"
                )
    extractor = load_part(AutoFeatureExtractor, download(checkpoint))
    name = type(extractor).__name__
    if name not in DUAL_FRONT_ENDS:
        raise InputError(
            f"{config.init}: feature extractor {name} is not supported{nearest(name, DUAL_FRONT_ENDS)}"
        )
    return extractor.sampling_rate


def audio_start(config: TrainConfig) -> Checkpoint:
    """Return the --init checkpoint; of a pooled model its speech encoder."""
    return speech_encoder(_init(config))


def text_start(config: TrainConfig) -> Checkpoint | None:
    """Return the text encoder of a new ALM: that of --text, or of a pooled model in --init."""
    if config.text:
        return text_encoder(resolve(config.text))
    both = _init(config)
    return text_encoder(both) if both.config.get("model_type") == POOLED else None


def _init(config: TrainConfig) -> Checkpoint:
    """The --init checkpoint, given with or without its family."""
    family, colon, checkpoint = config.init.partition(":")
    return resolve(checkpoint if colon and family in (*_FAMILIES, "pooled-alm") else config.init)


@dataclass(frozen=True)
class Start:
    """A model on the CPU in float32; whether its audio encoder and text projection are pretrained."""

    alm: AudioLanguageModel
    audio_trained: bool
    text_projection_trained: bool


def start(config: TrainConfig) -> Start:
    """Return the initial model. Random weights are seeded by config.seed.

    Raises InputError for incompatible parts, and for a text encoder that has random weights and is not
    trained.
    """
    checkpoint = download(audio_start(config))
    model_type = checkpoint.config.get("model_type")
    trained = has_weights(checkpoint.folder) and not config.from_scratch
    if model_type in _FAMILIES and trained:
        return Start(_FAMILIES[model_type][0](str(checkpoint.folder)), True, True)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if model_type in _FAMILIES:
            if not config.text_lr:
                raise InputError(
                    f"{config.init}: its text encoder has random weights and must be trained; set --text-lr"
                )
            family, network_class = _FAMILIES[model_type]
            tokenizer = load_part(AutoTokenizer, checkpoint)
            network = network_class(load_part(network_class.config_class, checkpoint))
        else:
            found = text_start(config)
            assert found is not None, "see check_start"
            family, text = Dual, download(found)
            tokenizer = load_part(AutoTokenizer, text)
            network = _joined(config, checkpoint, text, trained)
        model = family.of_parts(network, load_part(AutoFeatureExtractor, checkpoint), tokenizer)
        return Start(model, trained, model_type not in _FAMILIES and _is_identity(config))


def _is_identity(config: TrainConfig) -> bool:
    """Whether a new text projection is initialised to the identity."""
    return config.projection == "linear" and not config.projection_dim


def _joined(config: TrainConfig, audio: Checkpoint, text: Checkpoint, audio_trained: bool) -> DualNetwork:
    """Return a dual encoder of two checkpoints; an audio encoder without pretrained weights is random."""
    settings = [load_part(AutoConfig, checkpoint) for checkpoint in (audio, text)]
    for part in settings:
        quieten(part)
        part._name_or_path = ""  # a local path; keep it out of config.json
    network = DualNetwork(
        DualConfig(
            audio_config=settings[0],
            text_config=settings[1],
            projection=config.projection,
            projection_dim=config.projection_dim or settings[1].hidden_size,
            audio_pooling=config.audio_pooling,
            text_pooling=config.text_pooling,
        )
    )
    if _is_identity(config):
        nn.init.eye_(cast(nn.Linear, network.text_projection).weight)
    if audio_trained:
        _copy_weights(network.audio_model, audio, config.audio_pooling)
    if not has_weights(text.folder):
        raise InputError(f"--text {text.path_or_id} has no weights; a text encoder must be pretrained")
    _copy_weights(network.text_model, text, config.text_pooling)
    return network


def _copy_weights(encoder: Any, checkpoint: Checkpoint, pooling: str) -> None:
    """Copy a checkpoint's encoder; only an unused pooler may lack weights."""
    part = ENCODERS.get(checkpoint.config["model_type"], AutoModel)
    if checkpoint.config["model_type"] == "whisper":
        part = AutoModel
    model, report = load_part(part, checkpoint, dtype=torch.float32, output_loading_info=True)
    unneeded = ("masked_spec_embed", "decoder.") + (() if pooling == "pooler" else ("pooler",))
    missing = sorted(n for n in report["missing_keys"] if not any(part in n for part in unneeded))
    if missing:
        raise InputError(
            f"{checkpoint.path_or_id}: the weights lack {missing[0]} ({len(missing)} missing in all)"
        )
    check_finite(model, checkpoint.path_or_id)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    encoder.load_state_dict(model.state_dict())
