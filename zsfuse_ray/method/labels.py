"""Emotion names: synonyms, a user's label set, and how one label set maps onto another."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError

# Canonical name -> words a prompt may use, the canonical name first. Only close synonyms: two words of
# one entry cannot stand side by side in a label set.
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

# Spellings seen in metadata and model configs that no prompt should use.
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

UNSURE = "unsure"  # in place of a label whose probability is below a threshold

_WORDS = [word for words in SYNONYMS.values() for word in words]
_CANONICAL = {word: name for table in (SYNONYMS, _CODES) for name, words in table.items() for word in words}


def canonical(name: str) -> str:
    """Return the canonical emotion name: "Anger", " ang" -> "angry". Unknown names are only tidied."""
    plain = name.strip().lower()
    return _CANONICAL.get(plain, plain)


def column(label: str) -> str:
    """Return the label as a column suffix: lowercase, everything but letters and digits becomes "_"."""
    return re.sub(r"\W", "_", label.strip().lower())


def label_set(names: Sequence[str]) -> tuple[str, ...]:
    """Check a user's label set and return it stripped and lowercased, in order, in the user's own words.

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
    """Return a line for each label that is probably misspelled or that no model knows.

    specialist: its own labels, None without one; alm: whether there is an ALM; unknown: labels that the
    ALM's text encoder does not have as words.
    """
    own = {canonical(name) for name in specialist or ()}
    lines = []
    for label in labels:
        is_covered = canonical(label) in own
        near = [] if canonical(label) in SYNONYMS else get_close_matches(label, _WORDS, n=1, cutoff=0.8)
        if near and not is_covered:
            lines.append(f'label "{label}" is close to a known emotion word: did you mean "{near[0]}"?')
        elif not (is_covered or alm):
            lines.append(f'label "{label}" is not the specialist\'s, the only model: its probability is 0')
        elif not is_covered and label in unknown:
            lines.append(f'label "{label}" is a word that no model knows: its probability means little')
    return lines


def map_labels(source: Sequence[str], target: Sequence[str]) -> NDArray[np.bool_]:
    """Return a boolean array (S, C): source label s means target label c.

    Names match when their canonical names are equal. A source label matches at most one target, since a
    label set names each emotion once; several sources may match one target.
    """
    names = [canonical(name) for name in label_set(target)]
    return np.array([[canonical(name) == other for other in names] for name in source], dtype=bool)
