"""Turns of the speakers of a recording, and segments cut at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, order=True)
class Turn:
    """A stretch in which a speaker speaks, in seconds."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True)
class Piece:
    """A part of a region of speech. speaker: None where nobody has a turn."""

    start_s: float
    end_s: float
    speaker: str | None


def cut_at_turns(start_s: float, end_s: float, turns: Sequence[Turn], shortest_s: float) -> list[Piece]:
    """Cut a region of speech where its speaker changes; pieces are not shorter than ``shortest_s``.

    Where turns overlap, the speaker who began first keeps the floor. A piece that is too short joins the
    longer of its neighbours, whose speaker it takes: no speech is lost, and `shared` marks it.
    """
    inside = [turn for turn in turns if turn.start_s < end_s and turn.end_s > start_s]
    edges = {edge for turn in inside for edge in (turn.start_s, turn.end_s) if start_s < edge < end_s}
    pieces = [
        Piece(first, last, _holder((first + last) / 2, inside))
        for first, last in pairwise(sorted({start_s, end_s} | edges))
    ]
    pieces = _merged(pieces)
    while len(pieces) > 1:
        place = min(range(len(pieces)), key=lambda n: pieces[n].end_s - pieces[n].start_s)
        short = pieces[place]
        if short.end_s - short.start_s >= shortest_s:
            break
        near = [n for n in (place - 1, place + 1) if 0 <= n < len(pieces)]
        longer = max(near, key=lambda n: pieces[n].end_s - pieces[n].start_s)
        pieces[place] = Piece(short.start_s, short.end_s, pieces[longer].speaker)
        pieces = _merged(pieces)
    return pieces


def shared(start_s: float, end_s: float, speaker: str | None, turns: Sequence[Turn]) -> float:
    """Return the share of a stretch in which anyone but its speaker has a turn."""
    others = sorted(
        (max(turn.start_s, start_s), min(turn.end_s, end_s)) for turn in turns if turn.speaker != speaker
    )
    seconds, reached = 0.0, start_s
    for first, last in others:
        seconds += max(0.0, last - max(first, reached))
        reached = max(reached, last)
    return min(1.0, seconds / max(end_s - start_s, 1e-9))


def turns_between(rows: Sequence[dict[str, Any]], start_s: float, end_s: float) -> list[dict[str, Any]]:
    """Return the rows of TURN that overlap a stretch."""
    return [row for row in rows if row["start_s"] < end_s and row["end_s"] > start_s]


def _holder(at_s: float, turns: Sequence[Turn]) -> str | None:
    """The speaker who has the floor: of those who speak, the one whose turn began first."""
    return min((turn for turn in turns if turn.start_s <= at_s < turn.end_s), default=_NOBODY).speaker or None


_NOBODY = Turn(0.0, 0.0, "")


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Adjacent pieces of one speaker as one."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].speaker == piece.speaker:
            found[-1] = Piece(found[-1].start_s, piece.end_s, piece.speaker)
        else:
            found.append(piece)
    return found
