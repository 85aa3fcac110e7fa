"""Audio amplification: the encoder input that results from repeating a clip.

A clip is repeated a times (Kataria & Hu 2026); the model then applies its own fill and crop, so many
(clip, a) pairs give bit-identical input. Every input is a slice of the clip's periodic extension, followed by
zeros up to the window: (offset, filled) identifies it, and equal pairs are computed once.

All lengths are in samples at the model's rate. A clip here is at most one window long; `windows` cuts
longer ones.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError

# repeat_pad: whole copies, then zeros (LAION, transformers). circular: copies up to the window (msclap).
# none: the clip unchanged.
Fill = Literal["repeat_pad", "circular", "none"]

# same: bit-identical to one copy. fewer: fewer copies, more silence. cropped: cut at the window.
# more: more copies.
Effect = Literal["same", "fewer", "cropped", "more"]


def filled(length: int, repeats: int, window: int | None, fill: Fill) -> int:
    """Return how many samples of the clip's periodic extension precede the zeros in the encoder's input.

    A model without a window has nothing to fill and uses all repeats. Raises InputError for repeats
    below 1, ValueError for a clip that is empty or longer than the window.
    """
    if repeats < 1:
        raise InputError(f"audio repeats must be at least 1, not {repeats}")
    if length < 1 or (window is not None and length > window):
        raise ValueError(f"a clip of {length} samples is empty or longer than the window of {window}")
    repeated = repeats * length
    if window is None:
        return repeated
    if repeated > window or fill == "circular":
        return window
    if fill == "repeat_pad":
        return window // repeated * repeated
    return repeated


def windows(length: int, window: int | None) -> list[tuple[int, int]]:
    """Return (offset, length) of the consecutive windows that cover a clip; the last is the remainder."""
    if length < 1:
        raise ValueError(f"a clip of {length} samples is empty")
    if window is None:
        return [(0, length)]
    return [(start, min(window, length - start)) for start in range(0, length, window)]


def crop_offset(length: int, repeats: int, window: int | None, fill: Fill, seed: int | None) -> int:
    """Return where in the clip's periodic extension the model's input starts.

    0 if nothing is cropped, and for a head crop (seed None). With a seed, the start is drawn uniformly from
    all possible crops, as in the reference implementations, but from (seed, repeats) alone rather than a
    global random state, and reduced modulo the length, the signal's period.
    """
    overflow = repeats * length - filled(length, repeats, window, fill)
    if seed is None or overflow <= 0:
        return 0
    # A hash, not a Generator: constructing a Generator per clip costs ten times as much.
    digest = blake2b(f"{seed}:{repeats}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (overflow + 1) % length


@dataclass(frozen=True, eq=False)
class Distinct:
    """The distinct encoder inputs of n clips under r amplifications.

    inputs: (clip, offset, filled) of each, in order of first use. index: (n, r) positions in `inputs`.
    """

    inputs: tuple[tuple[int, int, int], ...]
    index: NDArray[np.int64]


def distinct_inputs(
    lengths: Sequence[int],
    repeats: Sequence[int],
    window: int | None,
    fill: Fill,
    seeds: Sequence[int] | None = None,
) -> Distinct:
    """Return the distinct inputs of all (clip, amplification) pairs; seeds: one per clip, for the crops."""
    inputs: list[tuple[int, int, int]] = []
    index = np.empty((len(lengths), len(repeats)), dtype=np.int64)
    for clip, seed, length in _clips(lengths, seeds):
        known: dict[tuple[int, int], int] = {}
        for column, a in enumerate(repeats):
            stretch = _input(length, a, window, fill, seed)
            if stretch not in known:
                known[stretch] = len(inputs)
                inputs.append((clip, *stretch))
            index[clip, column] = known[stretch]
    return Distinct(tuple(inputs), index)


def same_as(
    lengths: Sequence[int],
    a: int,
    known: Sequence[int],
    window: int | None,
    fill: Fill,
    seed: int | None = None,
) -> int | None:
    """Return the first known amplification whose encoder input equals that of a, None if there is none.

    lengths: of the windows that cover a clip; the inputs of all of them must be equal.
    """
    wanted = [_input(length, a, window, fill, seed) for length in lengths]
    for other in known:
        if [_input(length, other, window, fill, seed) for length in lengths] == wanted:
            return other
    return None


def effect(length: int, a: int, window: int | None, fill: Fill, seed: int | None = None) -> Effect:
    """Return the effect of amplification a on a clip, relative to a = 1."""
    once = _input(length, 1, window, fill, seed)
    amplified = _input(length, a, window, fill, seed)
    if amplified == once:
        return "same"
    if window is not None and a * length > window:
        return "cropped"
    return "fewer" if amplified[1] < once[1] else "more"


def effects(
    lengths: Sequence[int],
    repeats: Sequence[int],
    window: int | None,
    fill: Fill,
    seeds: Sequence[int] | None = None,
) -> dict[int, dict[str, int]]:
    """Return the number of clips by amplification and effect, including zero counts."""
    counts = {a: dict.fromkeys(get_args(Effect), 0) for a in repeats}
    # many clips of an archive share a length: compute each length once
    alike = Counter((length, seed) for _, seed, length in _clips(lengths, seeds))
    for (length, seed), clips in alike.items():
        for a in counts:
            counts[a][effect(length, a, window, fill, seed)] += clips
    return counts


def _input(length: int, repeats: int, window: int | None, fill: Fill, seed: int | None) -> tuple[int, int]:
    """Return (offset, filled), which together identify the input."""
    return crop_offset(length, repeats, window, fill, seed), filled(length, repeats, window, fill)


def _clips(lengths: Sequence[int], seeds: Sequence[int] | None) -> Iterator[tuple[int, int | None, int]]:
    """Return (clip, seed, length) of each clip, as Python integers: NumPy scalars are slow."""
    plain = [int(length) for length in lengths]
    every = [None] * len(plain) if seeds is None else seeds
    return zip(range(len(plain)), every, plain, strict=True)
