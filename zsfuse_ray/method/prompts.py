"""Prompts: templates filled with label words, and text amplification."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import SYNONYMS, canonical

# From published work on zero-shot speech emotion recognition.
TEMPLATES: tuple[str, ...] = (
    "this person is feeling {}.",
    "this person is feeling {}",
    "{}",
    "emotion is {}",
    "speaker is {}",
    "sentence is {}",
    "this is a {} instance",
    "speaker is very {}",
    "A person is speaking in a {} style.",
    "A speaker in a {} tone.",
    "speech has {} emotion",
    "This is a sound of {}",
    "this is the sound of {}",
    "The sound of {} can be heard.",
    "i can hear {}",
    "this is an audio of {}",
    "this is {}",
)

# Prompts closer than this (Euclidean, normalised embeddings) are the same text to a model: a cosine above
# 0.99999. Prompts of different emotions are 100 times as far apart.
_SAME = 0.0045


def check_template(template: str) -> str:
    """Return the template if it has exactly one placeholder for the label; InputError otherwise."""
    if len(template) > 300 or not template.isprintable():
        raise InputError(f"template {template[:60]!a} must be at most 300 printable characters")
    if "{}" not in template or template.count("{") != 1 or template.count("}") != 1:
        raise InputError(
            f'template "{template}" needs exactly one {{}} for the label, as in "{TEMPLATES[0]}"'
        )
    return template


def prompt_grid(labels: Sequence[str], templates: Sequence[str], words: int = 1) -> list[list[str]]:
    """Return the prompt bank: P = len(templates) * words rows with one prompt per label.

    Word 0 of a label is the user's own; the next ones are its synonyms. A label with fewer than `words`
    words cycles through them, so every row has a prompt for every label.
    """
    if not templates:
        raise InputError(f'a prompt bank needs at least one template, such as "{TEMPLATES[0]}"')
    if words < 1:
        raise InputError(f"words per label must be at least 1, not {words}")
    bank = [
        (label, *(word for word in SYNONYMS.get(canonical(label), ()) if word != label)) for label in labels
    ]
    return [
        [check_template(template).replace("{}", forms[j % len(forms)]) for forms in bank]
        for template in templates
        for j in range(words)
    ]


def repeat_text(prompt: str, b: int, separator: str = " ") -> str:
    """Return text amplification: b copies of the prompt joined by the separator (Kataria & Hu 2026)."""
    if b < 1:
        raise InputError(f"text repeats must be at least 1, not {b}")
    return separator.join([prompt] * b)


def check_bank(bank: NDArray[np.floating], labels: Sequence[str], truncated: int = 0) -> None:
    """Raise InputError for embedded prompts (..., C, D) of C labels that cannot tell the labels apart.

    They must be finite, of length 1, and for any two labels differ in at least one of the prompts: a text
    encoder that cannot read the labels gives them all the same embedding, and so the first label always
    wins. truncated: number of prompts that were cut, which may be the cause.
    """
    if not np.isfinite(bank).all():
        raise InputError("the ALM's text embeddings are not finite; use another checkpoint")
    lengths = np.linalg.norm(bank.astype(np.float64), axis=-1)
    if not np.allclose(lengths, 1, atol=0.02):
        far = lengths.flat[np.abs(lengths - 1).argmax()]
        raise InputError(f"the ALM's text embeddings must have length 1; one has {far:.3g}")
    rows = bank.reshape(-1, *bank.shape[-2:])
    for place in range(len(labels)):
        apart = np.linalg.norm(rows - rows[:, place : place + 1], axis=-1).max(axis=0)
        alike = [f'"{label}"' for label, far in zip(labels, apart, strict=True) if far < _SAME]
        if len(alike) > 1:
            why = f" ({truncated} prompts are cut at its maximum length)" if truncated else ""
            way_out = "shorten --templates" if truncated else "name them in its language, usually English"
            raise InputError(
                f"the ALM's text model cannot tell the labels {', '.join(alike)} apart: it reads their "
                f"prompts as the same text{why}; {way_out}, or use --alm none"
            )
