"""Tiny checkpoints with random weights, in the same format as real ones.

With them every code path runs in seconds, offline. Their outputs are meaningless.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from zsfuse_ray.models.checkpoints.load import quiet
from zsfuse_ray.models.networks.clsp import ClspNetwork, clsp_sizes
from zsfuse_ray.models.networks.dual import DualConfig, DualNetwork
from zsfuse_ray.models.temporary import written_once

_CARD = """---
license: apache-2.0
---
Random weights, for tests and dry runs: the outputs are meaningless.
"""


def untrained(family: str) -> Path:
    """Return the folder of the family's untrained checkpoint, written on first use."""
    makers = {
        "clap": untrained_alm,
        "clsp": untrained_clsp,
        "dual": untrained_dual,
        "classifier": untrained_specialist,
    }
    recipe = Path(__file__).read_bytes() + f"{torch.__version__} {transformers.__version__}".encode()
    return written_once(f"untrained-{family}-{sha256(recipe).hexdigest()[:12]}", makers[family])


def untrained_alm(folder: Path, seed: int = 0) -> None:
    """Write a CLAP checkpoint (48 kHz, windows of 10 s): a small HTSAT and a small text encoder."""
    tokenizer = byte_tokenizer()
    config = ClapConfig(
        projection_dim=32,
        audio_config={
            "patch_size": 8,
            "patch_stride": [8, 8],
            "patch_embeds_hidden_size": 16,
            "hidden_size": 64,  # 16 doubled by each of the two patch mergings
            "depths": [1, 1, 1],
            "num_attention_heads": [1, 2, 4],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    )
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    _save(ClapModel, config, [extractor, tokenizer], folder, seed)


def untrained_dual(folder: Path, seed: int = 0) -> None:
    """Write a dual encoder (16 kHz, no window): a small Wav2Vec2-BERT and a small BERT."""
    tokenizer = byte_tokenizer()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    audio = {"model_type": "wav2vec2-bert", "feature_projection_input_dim": 160}
    audio |= {"conv_depthwise_kernel_size": 5, "initializer_range": 0.3, "add_adapter": False}
    config = DualConfig(
        audio_config=size | audio,
        text_config=size | {"model_type": "bert", "vocab_size": len(tokenizer), "pad_token_id": 1},
        projection_dim=32,
    )
    extractor = SeamlessM4TFeatureExtractor(feature_size=40, num_mel_bins=40, stride=4)
    _save(DualNetwork, config, [extractor, tokenizer], folder, seed)


def untrained_clsp(folder: Path, seed: int = 0) -> None:
    """Write a CLSP checkpoint (16 kHz, no window): a small Zipformer2 and a small RoBERTa."""
    tokenizer = byte_tokenizer()
    config: dict[str, Any] = {
        "model_type": "clsp",
        "encoder_dim": 32,
        "num_heads": 2,
        "query_head_dim": 8,
        "pos_dim": 16,
        "num_encoder_layers": [1, 2, 1],
        "downsampling_factor": [1, 4, 1],
        "feedforward_dim": 64,
        "cnn_module_kernel": [15, 7, 15],
        "joint_dim": 32,
        "text_config": {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClspNetwork(clsp_sizes(config, str(folder)))
        for weight in network.parameters():
            if weight.ndim > 1:  # larger than usual: texts must differ
                torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with quiet():
        tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")


def untrained_specialist(
    folder: Path, labels: Sequence[str] = ("angry", "happy", "neutral", "sad"), seed: int = 0
) -> None:
    """Write a wav2vec 2.0 classifier (16 kHz) over the labels."""
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[32] * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=32,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    _save(Wav2Vec2ForSequenceClassification, config, [extractor], folder, seed)


def _save(model_class: Any, config: Any, others: Sequence[Any], folder: Path, seed: int) -> None:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in [model_class(config), *others]:
            part.save_pretrained(folder)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return RoBERTa's tokenizer with a vocabulary of single bytes."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=512,
    )
