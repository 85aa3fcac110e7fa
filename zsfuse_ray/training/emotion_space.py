"""The space that a small text encoder learns: what of a sentence encoder's space tells emotions apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertModel

from zsfuse_ray.models.checkpoints import download, load_model, load_part, resolve
from zsfuse_ray.training.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN


class Teacher:
    """A sentence encoder: texts → (n, width) normalised mean of its outputs, each text computed once."""

    def __init__(self, folder: str):
        found = download(resolve(folder))
        self.tokenizer = load_part(AutoTokenizer, found)
        self.model = load_model(BertModel, found, "cpu")
        self.licence = found.licence
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        new = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(new), 128):
            some = new[start : start + 128]
            self._known |= zip(some, embed(self.model, self.tokenizer, some), strict=True)
        return torch.stack([self._known[text] for text in texts])


@dataclass(frozen=True)
class Space:
    """What the student learns of the teacher's space: less the centre, times a matrix (teacher's, width)."""

    centre: Tensor
    axes: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        return normalize((embeddings - self.centre) @ self.axes, dim=-1)


def embed(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Return (n, width) normalised means of the model's outputs over each text's tokens."""
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
    hidden = model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    mask = tokens.attention_mask[..., None]
    return normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


def emotion_space(embeddings: Tensor, classes: Tensor, width: int) -> Space:
    """Return the directions that tell classes apart, then those of most variance, after soft whitening.

    embeddings: (n, D); classes: (n,). The scatter within classes is whitened, as in linear discriminant
    analysis, with its mean eigenvalue added to all: what varies with the template counts less.
    """
    centre = embeddings.mean(dim=0)
    x = embeddings - centre
    means = torch.stack([x[classes == c].mean(dim=0) for c in range(int(classes.max()) + 1)])
    within = (x - means[classes]).T @ (x - means[classes]) / len(x)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors @ torch.diag((values + values.mean()).rsqrt()) @ vectors.T
    between = torch.linalg.svd((means - means.mean(dim=0)) @ whiten, full_matrices=False)[2][: len(means) - 1]
    most = torch.linalg.svd(x @ whiten, full_matrices=False)[2][:width]
    axes = torch.linalg.qr(torch.cat([between.T, most.T], dim=1))[0][:, :width]
    return Space(centre, whiten @ axes)


@torch.no_grad()
def check(student: Any, teacher: Any) -> dict[str, float]:
    """Return how often each finds the emotion, and their mean cosine on unseen words in unseen templates.

    student, teacher: texts → (n, width) in one space. Nine emotions, each known by its first five learned
    words; accuracy on learned and unseen words in learned and unseen templates, and on the mean of all unseen
    prompts of an emotion.
    """
    names = list(UNSEEN)
    figures: dict[str, float] = {}
    wordings = {"learned": LEARNED, "unseen": UNSEEN}
    templates = {"learned": TEMPLATES_LEARNED, "unseen": TEMPLATES_UNSEEN}
    for who, see in (("student", student), ("teacher", teacher)):
        known = [[t.replace("{}", w) for w in LEARNED[n][:5] for t in TEMPLATES_LEARNED] for n in names]
        centres = normalize(torch.stack([see(texts).mean(dim=0) for texts in known]), dim=-1)
        for word_kind, words in wordings.items():
            for template_kind, forms in templates.items():
                texts, answers = _questions(words, names, forms)
                right = (see(texts) @ centres.T).argmax(dim=1) == answers
                figures[f"{who}_{word_kind}_words_{template_kind}_templates"] = right.float().mean().item()
        banks = torch.stack(
            [see(_questions({n: UNSEEN[n]}, [n], TEMPLATES_UNSEEN)[0]).mean(dim=0) for n in names]
        )
        right = (banks @ centres.T).argmax(dim=1) == torch.arange(len(names))
        figures[f"{who}_unseen_ensembles"] = right.float().mean().item()
    texts, _ = _questions(UNSEEN, names, TEMPLATES_UNSEEN)
    figures["cosine_unseen"] = (student(texts) * teacher(texts)).sum(dim=1).mean().item()
    return figures


def _questions(words: Mapping[str, Sequence[str]], names: Sequence[str], templates: Sequence[str]) -> Any:
    asked = [(i, t.replace("{}", w)) for i, name in enumerate(names) for w in words[name] for t in templates]
    return [text for _, text in asked], torch.tensor([i for i, _ in asked])
