"""Training data of the heads: vectors of the corpora from the trunk, captions from the text encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoTokenizer, BertModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from dev.mini.heads import Clips, Heads
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import SYNONYMS
from zsfuse_ray.method.prompts import TEMPLATES, prompt_grid
from zsfuse_ray.models.checkpoints.load import quiet
from zsfuse_ray.models.families.pooled import Trunk
from zsfuse_ray.models.networks.pooled import PooledConfig, PooledNetwork
from zsfuse_ray.training.captions import CAPTIONS, placeholders
from zsfuse_ray.training.clips import decoded_clip

LAYERS = 3  # of Whisper base: chosen on dev speakers and left-out corpora
_NAMES = {r"^model\.encoder\.": "", r"^encoder\.": ""}  # of a whole Whisper, as the encoder alone names them


def new_network(
    init: str, text: Path, labels: tuple[str, ...], hidden: int
) -> tuple[PooledNetwork, Any, Any]:
    """Return a network of two encoders with random heads, its feature extractor and its tokenizer.

    init: a Whisper model or its encoder alone, hub id or folder; its first LAYERS layers are used. text: a
    folder with a BERT, whose mean output is the common space. The heads have random weights.
    """
    settings = WhisperConfig.from_pretrained(init)
    if settings.encoder_layers < LAYERS:
        raise InputError(f"--init {init}: {settings.encoder_layers} encoder layers, at least {LAYERS} needed")
    settings.encoder_layers = LAYERS
    with quiet():
        loaded: Any = WhisperEncoder.from_pretrained(
            init, config=settings, key_mapping=_NAMES, dtype=torch.float32, output_loading_info=True
        )
        trunk, report = loaded
        if report["missing_keys"]:
            raise InputError(f"--init {init}: the weights lack {min(report['missing_keys'])}")
        bert = BertModel.from_pretrained(text, add_pooling_layer=False, dtype=torch.float32)
        settings._name_or_path = bert.config._name_or_path = ""  # local paths; keep them out of config.json
        network = PooledNetwork(
            PooledConfig(
                trunk_config=settings,
                text_config=bert.config,
                projection_hidden=hidden,
                projection_dim=bert.config.hidden_size,
                id2label=dict(enumerate(labels)),
                label2id={label: place for place, label in enumerate(labels)},
            )
        )
    network.trunk.load_state_dict(trunk.state_dict())
    network.text_model.load_state_dict(bert.state_dict(), strict=False)  # the pooler is not used
    extractor, tokenizer = AutoFeatureExtractor.from_pretrained(init), AutoTokenizer.from_pretrained(text)
    return network.eval(), extractor, tokenizer


def encoded(trunk: Trunk, clips: pa.Table, cache: Path, copies: int = 1) -> tuple[Clips, NDArray[np.str_]]:
    """Return the vectors of labelled clips and their split ("train", "dev", "test", or "" without one).

    The vectors are as the trunk returns them: with new heads, not standardised. Clips that cannot be decoded
    are left out. copies: of the audio, cropped to the trunk's window. cache: an .npz file, written if it does
    not exist.
    """
    if not cache.exists():
        rows, kept = [], []
        for place, clip in enumerate(clips.select(["uri", "start_s", "end_s"]).to_pylist()):
            try:
                samples = decoded_clip(clip["uri"], clip["start_s"], clip["end_s"], 16_000)
            except DecodeError:
                continue
            samples = np.tile(samples, copies)[: trunk.front.window]
            rows.append(trunk.vectors([torch.from_numpy(samples / np.float32(32768))])[0].numpy())
            kept.append(place)
            if place % 500 == 0:
                print(f"encoded {place} of {len(clips)} clips", flush=True)
        np.savez(cache, vectors=np.array(rows, np.float32), kept=np.array(kept))
    stored = np.load(cache)
    table = clips.take(pa.array(stored["kept"]))
    labels = label_set(table)
    corpora = np.array(table["corpus"].to_pylist())
    speakers = np.char.add(np.char.add(corpora, "/"), np.array(table["speaker"].to_pylist(), str))
    values = Clips(
        stored["vectors"],
        np.array([labels.index(emotion) for emotion in table["emotion"].to_pylist()]),
        np.unique(corpora, return_inverse=True)[1],
        np.unique(speakers, return_inverse=True)[1],
        labels,
    )
    return values, np.array([split or "" for split in table["split"].to_pylist()])


def captions(alm: Any, labels: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Return embeddings (n, D) of captions for each label: its synonyms in templates of emotion alone."""
    templates = [template for template in CAPTIONS if placeholders(template) == ("emotion",)]
    return {
        label: alm.embed_text([t.replace("{emotion}", word) for t in templates for word in SYNONYMS[label]])[
            0
        ].numpy()
        for label in labels
    }


def prompts(alm: Any, labels: tuple[str, ...]) -> NDArray[np.float32]:
    """Return embeddings (P, labels, D) of the default prompts."""
    grid = prompt_grid(labels, TEMPLATES)
    rows = alm.embed_text([prompt for row in grid for prompt in row])[0].numpy()
    return rows.reshape(len(grid), len(labels), -1)


def set_heads(network: PooledNetwork, heads: Heads) -> None:
    """Copy trained heads into a network."""
    weights = {
        "mean": torch.from_numpy(heads.mean),
        "deviation": torch.from_numpy(heads.deviation),
        "classifier.weight": torch.from_numpy(heads.weight),
        "classifier.bias": torch.from_numpy(heads.bias),
        "logit_scale": torch.tensor(heads.log_scale),
    }
    weights |= {f"audio_projection.{name}": value for name, value in heads.projection.state_dict().items()}
    network.load_state_dict(weights, strict=False)
