"""The target space of the small text encoder: emotion posterior and further meaning of a word.

The embedding of a word is the square root of the posterior over emotions (Hellinger distance) of a logistic
regression trained on a thesaurus, concatenated with principal components. Features of the regression are
sentence-encoder embeddings (meaning) and static word vectors (co-occurrence). With the encoder alone, fewer
words outside the thesaurus are classified correctly.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertModel

from dev.mini.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part

# chosen on words held out of the thesaurus
_STRENGTH = 10.0  # inverse regularisation strength of the regression
_SHARE = 0.9  # of the posterior in the squared norm of an embedding; the rest is principal components
_SENTENCES = ("{}", "this person is feeling {}.", "a {} voice")
_EMPTY = ("a", "an", "the", "of", "to", "in", "on", "with", "and", "his", "her", "my", "i", "at", "is", "it")


class Teacher:
    """A sentence encoder: texts → (n, width) normalised mean of its outputs, each text computed once."""

    def __init__(self, folder: str):
        checkpoint = download(resolve(folder))
        self.tokenizer = load_part(AutoTokenizer, checkpoint)
        self.model = load_model(BertModel, checkpoint, "cpu")
        self.licence = checkpoint.licence
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        new = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(new), 128):
            some = new[start : start + 128]
            self._known |= zip(some, embed(self.model, self.tokenizer, some), strict=True)
        return torch.stack([self._known[text] for text in texts])

    def word(self, words: Sequence[str]) -> Tensor:
        """Return (n, width) context-independent embeddings of words: the mean over some sentences."""
        texts = [sentence.replace("{}", word) for word in words for sentence in _SENTENCES]
        return self(texts).reshape(len(words), len(_SENTENCES), -1).mean(dim=1)

    @torch.no_grad()
    def pieces(self, words: Sequence[str]) -> Tensor:
        """Return (n, width) input embeddings of words: the mean over each word's pieces."""
        table, known = self.model.embeddings.word_embeddings.weight, self.tokenizer.get_vocab()
        rows = [
            [known[word]]
            if word in known
            else self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(word))
            for word in words
        ]
        return torch.stack([table[row].mean(dim=0) for row in rows])


class WordVectors:
    """Static word vectors such as GloVe, most frequent words first: words → (n, width)."""

    def __init__(self, folder: str):
        tables, lists = sorted(Path(folder).glob("*.npy")), sorted(Path(folder).glob("*.parquet"))
        if len(tables) != 1 or len(lists) != 1:
            raise InputError(f"{folder}: needs exactly one .npy of vectors and one .parquet of their words")
        self.table: NDArray[np.float32] = np.load(tables[0], mmap_mode="r", allow_pickle=False)
        self.words: list[str] = pq.read_table(lists[0]).column(0).to_pylist()
        if self.table.ndim != 2 or len(self.table) != len(self.words):
            raise InputError(f"{folder}: {len(self.words)} words for vectors of shape {self.table.shape}")
        self._rows = {word: row for row, word in enumerate(self.words)}

    def __contains__(self, word: str) -> bool:
        return word in self._rows

    def __call__(self, words: Sequence[str]) -> Tensor:
        """Return (n, width) vectors; of phrases the mean without stop words; zeros for unknown words."""
        out = np.zeros((len(words), self.table.shape[1]), np.float32)
        for row, text in zip(out, words, strict=True):
            parts = [part for part in re.split(r"[ '-]", text.lower()) if part in self._rows]
            if used := [part for part in parts if part not in _EMPTY] or parts:
                row[:] = self.table[[self._rows[part] for part in used]].mean(axis=0)
        return torch.from_numpy(out)


class Space:
    """Words → (n, width) normalised embeddings; fitted to a thesaurus, emotion → words."""

    def __init__(
        self, teacher: Teacher, vectors: WordVectors, thesaurus: Mapping[str, Sequence[str]], width: int
    ):
        self.sources = (teacher.word, vectors)
        words = [word for several in thesaurus.values() for word in several]
        emotions = np.repeat(np.arange(len(thesaurus)), [len(several) for several in thesaurus.values()])
        outputs = [source(words) for source in self.sources]
        self.centres = [x.mean(dim=0) for x in outputs]
        self.sizes = [
            (x - c).norm(dim=1).square().mean().sqrt() for x, c in zip(outputs, self.centres, strict=True)
        ]
        features = self.features(words)
        self.regression = LogisticRegression(C=_STRENGTH, max_iter=1000, class_weight="balanced")
        self.regression.fit(features.numpy(), emotions)
        self.known = dict(zip(words, emotions.tolist(), strict=True))
        self.axes = torch.linalg.svd(features, full_matrices=False)[2][: width - len(thesaurus)].T
        self.axes = self.axes / (features @ self.axes).norm(dim=1).square().mean().sqrt()
        near = self.posterior(words).sqrt()
        self.near, self.spread = near.mean(dim=0), near.std(dim=0)

    def features(self, words: Sequence[str]) -> Tensor:
        """Return (n, D) the concatenated sources of words, each centred and scaled to unit size."""
        outputs = [source(words) for source in self.sources]
        parts = [(x - c) / size for x, c, size in zip(outputs, self.centres, self.sizes, strict=True)]
        return torch.cat(parts, dim=1)

    def posterior(self, words: Sequence[str]) -> Tensor:
        """Return (n, emotions) probabilities; a thesaurus word has at least 0.5 on its own emotion."""
        posterior = torch.from_numpy(self.regression.predict_proba(self.features(words).numpy())).float()
        for row, word in zip(posterior, words, strict=True):
            if word in self.known:
                row.div_(2)[self.known[word]] += 0.5
        return posterior

    def __call__(self, words: Sequence[str]) -> Tensor:
        near = (self.posterior(words).sqrt() - self.near) / self.spread
        rest = self.features(words) @ self.axes
        return normalize(
            torch.cat([near * (_SHARE / near.shape[1]) ** 0.5, rest * (1 - _SHARE) ** 0.5], dim=1), dim=-1
        )


def embed(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Return (n, width) normalised means of the model's outputs over each text's tokens."""
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
    hidden = model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    mask = tokens.attention_mask[..., None]
    return normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


@torch.no_grad()
def check(student: Any, space: Any) -> dict[str, float]:
    """Return accuracies of student and space, and their mean cosine on unseen words in unseen templates.

    student: texts → (n, width); space: words → (n, width). Nearest of nine emotion centroids, each of five
    learned words; accuracy on learned and unseen words (the student's in learned and unseen templates), and
    on the mean of all unseen prompts of an emotion.
    """
    names, figures = list(UNSEEN), {}
    bare = ("{}",)
    for who, encode, kinds in (
        (
            "student",
            student,
            {"_learned_templates": TEMPLATES_LEARNED, "_unseen_templates": TEMPLATES_UNSEEN},
        ),
        ("space", space, {"": bare}),
    ):
        forms = next(iter(kinds.values()))
        known = [_prompts({n: LEARNED[n][:5]}, [n], forms)[0] for n in names]
        centres = normalize(torch.stack([encode(texts).mean(dim=0) for texts in known]), dim=-1)
        for word_kind, words in {"learned": LEARNED, "unseen": UNSEEN}.items():
            for kind, templates in kinds.items():
                texts, targets = _prompts(words, names, templates)
                right = (encode(texts) @ centres.T).argmax(dim=1) == targets
                figures[f"{who}_{word_kind}_words{kind}"] = right.float().mean().item()
        banks = [encode(_prompts(UNSEEN, [n], list(kinds.values())[-1])[0]).mean(dim=0) for n in names]
        right = (torch.stack(banks) @ centres.T).argmax(dim=1) == torch.arange(len(names))
        figures[f"{who}_unseen_ensembles"] = right.float().mean().item()
    texts, _ = _prompts(UNSEEN, names, TEMPLATES_UNSEEN)
    words = _prompts(UNSEEN, names, bare)[0]
    placed = space(words).repeat_interleave(len(TEMPLATES_UNSEEN), dim=0)
    figures["cosine_unseen"] = (student(texts) * placed).sum(dim=1).mean().item()
    return figures


def _prompts(words: Mapping[str, Sequence[str]], names: Sequence[str], templates: Sequence[str]) -> Any:
    pairs = [(i, t.replace("{}", w)) for i, name in enumerate(names) for w in words[name] for t in templates]
    return [text for _, text in pairs], torch.tensor([i for i, _ in pairs])
