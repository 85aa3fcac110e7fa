"""Captions of labelled clips, and which captions in a batch are true of which clips.

A caption is a template filled from a clip's columns: "a {gender} voice, {emotion}". Many clips in a batch
share captions of the same meaning. Plain contrastive learning (Radford et al. 2021) would push them apart;
here every caption that is true of a clip is a positive, as in supervised contrastive learning (Khosla et al.
2020).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.labels import SYNONYMS, canonical

# Text columns that do not describe the audio.
_NOT_SOUND = ("uri", "split", "fold", "corpus")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")

CAPTIONS: tuple[str, ...] = (
    "this person is feeling {emotion}.",
    "this person is feeling {emotion}",
    "{emotion}",
    "emotion is {emotion}",
    "speaker is {emotion}",
    "this is a {emotion} instance",
    "A person is speaking in a {emotion} style.",
    "A speaker in a {emotion} tone.",
    "speech has {emotion} emotion",
    "This is a sound of {emotion}",
    "i can hear {emotion}",
    "this is {emotion}",
    "a {gender} speaker who is {emotion}",
    "a {gender} voice, {emotion}",
    "{emotion} speech of a {gender} speaker",
    "{emotion} speech, {intensity} intensity",
    "the speaker is {emotion}, {style}",
)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the columns a caption template names, in order; "{}" is short for "{emotion}".

    Raises InputError for a template without placeholders or with invalid braces.
    """
    if len(template) > 300 or not template.isprintable():
        raise InputError(f"caption {template[:60]!a} must be at most 300 printable characters")
    if set("{}") & set(_PLACEHOLDER.sub("", template)) or not _PLACEHOLDER.search(template):
        raise InputError(
            f'caption "{template}" needs {{emotion}} or other columns in braces, and no other braces'
        )
    return tuple(dict.fromkeys(name or "emotion" for name in _PLACEHOLDER.findall(template)))


@dataclass(frozen=True, eq=False)
class Captions:
    """The captions available for the rows of a table.

    columns: the k columns used by templates; values: the values of each; codes: (rows, k) indices into
    values, -1 for missing; named: (templates, k) which columns a template uses; words: number of synonyms
    per emotion; known_emotions: (rows, values of emotion) whether the row's corpus has the emotion, None:
    all do.
    """

    templates: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    codes: NDArray[np.int32]
    named: NDArray[np.bool_]
    words: int
    known_emotions: NDArray[np.bool_] | None = None

    def usable(self, row: int) -> NDArray[np.int64]:
        """Return the templates whose columns the row has."""
        return np.flatnonzero(~(self.named & (self.codes[row] < 0)).any(axis=1))

    def draw(self, row: int, seed: int) -> tuple[int, str]:
        """Return a random template that the row can fill, and the caption; the same for the same seed."""
        random = np.random.default_rng(seed)
        template = int(random.choice(self.usable(row)))

        def word(match: re.Match[str]) -> str:
            column = self.columns.index(match[1] or "emotion")
            value = self.values[column][self.codes[row, column]]
            forms = (
                SYNONYMS.get(value, (value,))[: self.words] if self.columns[column] == "emotion" else (value,)
            )
            return forms[random.integers(len(forms))]

        return template, _PLACEHOLDER.sub(word, self.templates[template])

    def truth(
        self, clips: NDArray[np.int64], rows: NDArray[np.int64], templates: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return (n, m) whether caption j is true of clip i, and whether that is known.

        clips: (n,) rows of the table; rows, templates: (m,) the row and template of each caption. A caption
        is true if all its columns match the clip's, and false if any differs; it is unknown if the clip
        lacks a column of it and the others match.
        """
        ours, theirs = self.codes[clips][:, None], self.codes[rows][None]
        named, lacking = self.named[templates][None], self.codes[clips][:, None] < 0
        if self.known_emotions is not None:
            emotion = self.columns.index("emotion")
            lacking = np.broadcast_to(lacking, (len(clips), len(rows), len(self.columns))).copy()
            lacking[:, :, emotion] |= ~self.known_emotions[clips][:, self.codes[rows, emotion]]
        wrong = (named & ~lacking & (ours != theirs)).any(axis=2)
        unsure = (named & lacking).any(axis=2)
        return ~wrong & ~unsure, wrong | ~unsure


def captions_of(
    table: pa.Table, templates: Sequence[str] = CAPTIONS, words: int = 10, *, mask_unknown: bool = False
) -> Captions:
    """Return the captions for a table of labelled clips (a column per placeholder; emotions in any spelling).

    Templates that no row can fill are left out. mask_unknown: an emotion that no clip of a corpus has is
    unknown, not false, for its clips. Raises InputError for an invalid template or a row that fills none.
    """
    usual = {"emotion", "gender", "intensity", "style"}
    columns: list[str] = []
    for template in templates:
        for name in placeholders(template):
            if name not in table.column_names and name not in usual:
                texts = [
                    f.name for f in table.schema if pa.types.is_string(f.type) and f.name not in _NOT_SOUND
                ]
                raise InputError(f'caption "{template}": no column {name}{nearest(name, texts)}')
            if name not in columns:
                columns.append(name)
    codes = np.full((table.num_rows, len(columns)), -1, dtype=np.int32)
    values: list[tuple[str, ...]] = []
    for k, name in enumerate(columns):
        column = table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
        plain = [None if word is None else _plain(name, str(word)) for word in column]
        values.append(tuple(sorted({word for word in plain if word})))
        codes[:, k] = [values[k].index(word) if word else -1 for word in plain]
    named = np.array([[name in placeholders(t) for name in columns] for t in templates], dtype=bool)
    fillable = np.array([bool((~(need & (codes < 0)).any(axis=1)).any()) for need in named], dtype=bool)
    kept = tuple(t for t, ok in zip(templates, fillable, strict=True) if ok)
    captions = Captions(kept, tuple(columns), tuple(values), codes, named[fillable], words)
    for row in range(table.num_rows):
        if not len(captions.usable(row)):
            uri = table["uri"][row].as_py() if "uri" in table.column_names else f"row {row}"
            raise InputError(
                f"{uri}: no caption can be filled; values are missing in its columns {', '.join(columns)}"
            )
    if mask_unknown and "emotion" in columns and "corpus" in table.column_names:
        corpora = np.array(table["corpus"].to_pylist(), dtype=object)
        emotion = codes[:, columns.index("emotion")]
        known = np.zeros((table.num_rows, len(values[columns.index("emotion")])), dtype=bool)
        for corpus in set(corpora):
            of_it = corpora == corpus
            known[np.ix_(of_it, np.unique(emotion[of_it & (emotion >= 0)]))] = True
        captions = Captions(kept, captions.columns, captions.values, codes, captions.named, words, known)
    return captions


def _plain(column: str, word: str) -> str:
    return canonical(word) if column == "emotion" else word.strip().lower()
