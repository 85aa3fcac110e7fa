"""Emotion names: synonyms, a user's label set, and how one label set maps onto another."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError

# Canonical name -> words a prompt may use, the canonical name first. Only close synonyms: a label set
# cannot contain two words of one entry.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "angry": ("angry", "anger", "mad", "furious", "enraged"),
    "bored": ("bored", "boredom", "uninterested", "listless"),
    "calm": ("calm", "calmness", "peaceful", "serene"),
    "contempt": ("contempt", "contemptuous", "scornful", "disdainful"),
    "disgust": ("disgust", "disgusted", "revolted", "repulsed"),
    "excited": ("excited", "excitement", "thrilled", "enthusiastic"),
    "fearful": ("fearful", "fear", "afraid", "scared", "frightened"),
    "frustrated": ("frustrated", "frustration", "exasperated"),
    "happy": ("happy", "happiness", "joyful", "joy", "cheerful"),
    "neutral": ("neutral", "neutrality", "emotionless", "unemotional"),
    "sad": ("sad", "sadness", "unhappy", "sorrowful"),
    "surprised": ("surprised", "surprise", "astonished", "amazed"),
}

# Spellings found in metadata and model configs; not for prompts.
_CODES: dict[str, tuple[str, ...]] = {
    "angry": ("ang", "a"),
    "bored": ("bor",),
    "calm": ("cal",),
    "contempt": ("con", "c"),
    "disgust": ("dis", "d"),
    "excited": ("exc",),
    "fearful": ("fea", "f"),
    "frustrated": ("fru",),
    "happy": ("hap", "h"),
    "neutral": ("neu", "n"),
    "sad": ("s",),
    "surprised": ("sur", "u", "ps", "pleasant surprise", "pleasant_surprise", "pleasant_surprised"),
}

UNSURE = "unsure"  # replaces a label whose confidence is below the threshold

_WORDS = [word for words in SYNONYMS.values() for word in words]
_CANONICAL = {word: name for table in (SYNONYMS, _CODES) for name, words in table.items() for word in words}


def canonical(name: str) -> str:
    """Return the canonical emotion name: "Anger", " ang" -> "angry". Unknown names: stripped, lowercased."""
    plain = name.strip().lower()
    return _CANONICAL.get(plain, plain)


def column(label: str) -> str:
    """Return the label as a column suffix: lowercase, non-word characters replaced by "_"."""
    return re.sub(r"\W", "_", label.strip().lower())


def label_set(names: Sequence[str]) -> tuple[str, ...]:
    """Validate a user's label set and return it stripped and lowercased, order and wording unchanged.

    Raises InputError for fewer than two labels, a label that is empty, longer than 60 characters or not
    printable, and for two labels that name the same emotion or would share a table column.
    """
    labels = tuple(name.strip().lower() for name in names)
    if len(labels) < 2:
        raise InputError(f"a label set needs at least two labels, got {', '.join(labels) or 'none'}")
    seen: dict[str, str] = {}
    columns: dict[str, str] = {}
    for label in labels:
        if not label:
            raise InputError("a label is empty; separate labels with single commas")
        if len(label) > 60 or not label.isprintable():
            raise InputError(f"label {label[:60]!r} must be at most 60 printable characters")
        if first := seen.get(canonical(label)):
            raise InputError(f'labels "{first}" and "{label}" name the same emotion; keep one')
        if first := columns.get(column(label)):
            raise InputError(f'labels "{first}" and "{label}" would share a table column; rename one')
        seen[canonical(label)] = columns[column(label)] = label
    return labels


def label_warnings(
    labels: Sequence[str], specialist: Sequence[str] | None, alm: bool, unknown: Collection[str] = ()
) -> list[str]:
    """Return one line per label that is probably misspelled or unknown to every model.

    specialist: its own labels, None without one; alm: whether there is an ALM; unknown: labels missing from
    the vocabulary of the ALM's text encoder.
    """
    own = {canonical(name) for name in specialist or ()}
    lines = []
    for label in labels:
        is_covered = canonical(label) in own
        near = [] if canonical(label) in SYNONYMS else get_close_matches(label, _WORDS, n=1, cutoff=0.8)
        if near and not is_covered:
            lines.append(f'label "{label}" is close to a known emotion word: did you mean "{near[0]}"?')
        elif not (is_covered or alm):
            lines.append(
                f'label "{label}" is not covered by the specialist, the only model: its score is always 0'
            )
        elif not is_covered and label in unknown:
            lines.append(f'label "{label}" is not in the vocabulary of any model: its scores are unreliable')
    return lines


def map_labels(source: Sequence[str], target: Sequence[str]) -> NDArray[np.bool_]:
    """Return a boolean array (S, C): True if source label s denotes target label c.

    Names match if their canonical names are equal. A source label matches at most one target, since a
    label set contains each emotion once; several source labels may match one target.
    """
    names = [canonical(name) for name in label_set(target)]
    return np.array([[canonical(name) == other for other in names] for name in source], dtype=bool)
