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

LONGEST = 60  # characters of a label
UNSURE = "unsure"  # replaces a label whose confidence is below the threshold

# Shares of the specialist's probability outside the label set above which `dropped_warning` warns: of a set
# that it covers, and of one that it does not.
MOST_DROPPED, SOME_DROPPED = 0.5, 0.01

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
        if len(label) > LONGEST or not label.isprintable():
            raise InputError(f"label {label[:LONGEST]!r} must be at most {LONGEST} printable characters")
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


def check_coverage(
    specialist: str, own: Sequence[str], labels: Sequence[str], with_alm: bool, of: str = ""
) -> str | None:
    """Raise InputError if the specialist's labels say nothing on the label set; returns a warning or None.

    A specialist of a single label gives it all of its probability, whatever the audio, so at least two are
    needed; with an ALM one is enough, but has no influence. of: the corpus of the labels, for the message.
    """
    inside = np.logical_or.reduce(map_labels(own, labels), axis=0)
    known = [label for label, is_known in zip(labels, inside, strict=True) if is_known]
    if len(known) > 1:
        return None
    if known and with_alm:
        return (
            f"--specialist {specialist} covers only {known[0]} of the labels {', '.join(labels)}, so it has "
            "no influence: all labels are those of the ALM"
        )
    found, way_out = "none", "choose another specialist, or among its labels with --labels"
    if known:
        found, way_out = f"only {known[0]}", f"add an ALM with --alm for the others, or {way_out}"
    raise InputError(
        f"--specialist {specialist} covers {found} of the labels{of} {', '.join(labels)}; its own are "
        f"{', '.join(own)}: {way_out}"
    )


def dropped_warning(share: float, own: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return a warning of the share of the specialist's probability that is on labels outside the set.

    It is dropped, and the rest scaled to 1: a segment that is clearly calm gets a confident other label. For
    a label set that the specialist covers, this is the user's choice, and worth a warning only if it is most.
    """
    mapping = map_labels(own, labels)
    if share <= (MOST_DROPPED if mapping.any(axis=0).all() else SOME_DROPPED):
        return None
    others = [
        name
        for name, is_mapped in zip(own, np.logical_or.reduce(mapping, axis=1), strict=True)
        if not is_mapped
    ]
    names = ", ".join(others[:8]) + (", …" if len(others) > 8 else "")
    return (
        f"the specialist gave {share:.1%} of its probability to labels outside the label set ({names}); this "
        "share is dropped, and its posteriors are of the rest: add these labels, or do not rely on them"
    )


def map_labels(source: Sequence[str], target: Sequence[str]) -> NDArray[np.bool_]:
    """Return a boolean array (S, C): True if source label s denotes target label c.

    Names match if their canonical names are equal. A source label matches at most one target, since a
    label set contains each emotion once; several source labels may match one target.
    """
    names = [canonical(name) for name in label_set(target)]
    return np.array([[canonical(name) == other for other in names] for name in source], dtype=bool)
