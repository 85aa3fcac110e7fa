"""The numbers of samples that an mp4 file states: FFmpeg allocates memory for them before it reads any."""

from collections.abc import Iterator
from typing import BinaryIO

_FIRST = (b"ftyp", b"moov", b"styp", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot")
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_MOST_BOXES = 2000  # looked at; real headers of audio have some fifty
_DEEPEST = 5  # moov, trak, mdia, minf, stbl
_SLACK = 10_000  # samples without bytes, of text tracks


def stated_samples(file: BinaryIO, size: int) -> int | None:
    """Return the number of samples that an mp4 file's header states, if more than it has bytes; else None.

    Samples of one byte in PCM-like tracks, of which FFmpeg lists chunks only, do not count.
    """
    file.seek(0)
    if file.read(8)[4:] not in _FIRST:
        return None
    total = 0
    counts = {b"stsz": 0, b"stts": 0}  # of the current track
    for number, (kind, start, length) in enumerate(_boxes(file, 0, size)):
        if number == _MOST_BOXES:
            break
        if kind == b"trak":
            total, counts = total + _listed(counts), {b"stsz": 0, b"stts": 0}
        elif kind in (b"stsz", b"stz2", b"stts", b"trun"):
            file.seek(start)
            words = [int.from_bytes(file.read(4), "big") for _ in range(min(4, length // 4))]
            words += [0] * (4 - len(words))
            if kind == b"stts":
                counts[b"stts"] = words[3] if words[1] == 1 else 0  # the only duration
            elif kind == b"trun":
                total += words[1]
            else:
                counts[b"stsz"] = words[2]
    total += _listed(counts)
    return total if total > size + _SLACK else None


def _listed(counts: dict[bytes, int]) -> int:
    return 0 if counts[b"stts"] == 1 else counts[b"stsz"]


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and length of the content of all boxes, parents before what is in them."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        length, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, skip = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            length = end - start
        if length < skip:
            return
        stop = min(end, start + length)
        yield kind, start + skip, stop - start - skip
        if kind in _PARENTS and depth < _DEEPEST:
            yield from _boxes(file, start + skip, stop, depth + 1)
        start += length
