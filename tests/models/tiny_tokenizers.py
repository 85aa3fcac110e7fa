"""Small tokenizers of the kinds used by published text encoders."""

import string

from transformers import BertTokenizer, PreTrainedTokenizerBase, T5Tokenizer, XLMRobertaTokenizer

_LETTERS = string.ascii_lowercase + string.digits + ".,äöüß"
_WORDS = ("this", "person", "is", "feeling", "happy", "sad", "speaking", "style")


def word_pieces() -> PreTrainedTokenizerBase:
    """Return a BERT tokenizer, at most 512 tokens: some words, other words letter by letter."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS, *_LETTERS, *(f"##{c}" for c in _LETTERS)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=512)


def sentence_pieces() -> PreTrainedTokenizerBase:
    """Return an XLM-RoBERTa tokenizer, at most 512 tokens."""
    pieces = ["▁", *(f"▁{word}" for word in _WORDS), *_LETTERS, *string.ascii_uppercase]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*special, *((piece, -float(i + 1)) for i, piece in enumerate(pieces)), ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=512)


def t5_pieces() -> PreTrainedTokenizerBase:
    """Return a T5 tokenizer, at most 512 tokens."""
    pieces = ["▁", *(f"▁{word}" for word in _WORDS), *_LETTERS, *string.ascii_uppercase]
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    vocabulary = [*special, *((piece, -float(i + 1)) for i, piece in enumerate(pieces))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)
