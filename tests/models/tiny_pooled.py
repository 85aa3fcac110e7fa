"""A tiny pooled model: a Whisper encoder of two layers, a BERT of one, and random heads."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor

from zsfuse_ray.models.networks.pooled import PooledConfig, PooledNetwork

WORDS = ("[PAD]", "[UNK]", "sad", "happy", "this", "is")


def word_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )


def write_pooled(folder: Path) -> None:
    """Write a pooled model with random weights; its labels are sad and happy."""
    trunk = WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, num_mel_bins=80
    )
    text = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = PooledConfig(
            trunk_config=trunk,
            text_config=text,
            projection_hidden=12,
            projection_dim=8,
            id2label={0: "sad", 1: "happy"},
        )
        network = PooledNetwork(config)
        network.mean.normal_()
        network.deviation.uniform_(0.5, 2)
        network.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
