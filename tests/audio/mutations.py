"""Broken audio files, each remade from a seed and its number: mutations of sound ones of many formats."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.audio.sounds import chirp, write

RATE = 48_000
# suffix, codec, sampling rate
FORMATS = (
    ("wav", "pcm_s16le", RATE),
    ("wav", "pcm_f32le", 44_100),
    ("wav", "adpcm_ms", 22_050),
    ("w64", "pcm_s24le", RATE),
    ("aiff", "pcm_s16be", RATE),
    ("au", "pcm_mulaw", 8_000),
    ("caf", "alac", RATE),
    ("flac", "flac", RATE),
    ("mp3", "libmp3lame", RATE),
    ("ogg", "flac", RATE),
    ("opus", "libopus", RATE),
    ("m4a", "aac", RATE),
    ("mp4", "alac", 44_100),
    ("aac", "aac", RATE),
    ("mka", "libopus", RATE),
    ("mkv", "ac3", RATE),
    ("webm", "libopus", RATE),
    ("wma", "wmav2", 44_100),
    ("avi", "mp2", RATE),
    ("wv", "wavpack", RATE),
    ("tta", "tta", RATE),
)
# Fields of headers that state rates, counts, sizes and durations: bytes from the start of the tag, and width.
FIELDS: dict[bytes, tuple[tuple[int, int], ...]] = {
    b"RIFF": ((4, 4),),
    b"fmt ": ((4, 4), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (22, 2)),
    b"fact": ((4, 4), (8, 4)),
    b"data": ((4, 4), (4, 8)),
    b"FORM": ((4, 4),),
    b"COMM": ((4, 4), (8, 2), (10, 4), (14, 2), (16, 2), (18, 8)),
    b"SSND": ((4, 4), (8, 4), (12, 4)),
    b".snd": ((4, 4), (8, 4), (12, 4), (16, 4), (20, 4)),
    b"desc": ((4, 8), (12, 8), (24, 4), (28, 4), (32, 4), (36, 4)),
    b"pakt": ((4, 8), (12, 8), (20, 8), (28, 4)),
    b"fLaC": ((5, 3), (8, 2), (10, 2), (12, 3), (15, 3), (18, 3), (21, 5)),
    b"OggS": ((4, 2), (6, 8), (18, 4), (26, 1)),
    b"OpusHead": ((8, 1), (9, 1), (10, 2), (12, 4), (16, 2), (18, 1)),
    b"\x01vorbis": ((7, 4), (11, 1), (12, 4), (28, 1)),
    b"mvhd": ((4, 1), (16, 4), (20, 4)),
    b"mdhd": ((4, 1), (16, 4), (20, 4)),
    b"tkhd": ((24, 4),),
    b"elst": ((8, 4), (12, 4), (16, 4), (20, 4)),
    b"stts": ((8, 4), (12, 4), (16, 4)),
    b"stsc": ((8, 4), (12, 4), (16, 4)),
    b"stsz": ((8, 4), (12, 4), (16, 4)),
    b"stco": ((8, 4), (12, 4)),
    b"mp4a": ((20, 2), (22, 2), (28, 4)),
    b"alac": ((8, 4), (12, 4), (16, 4), (24, 4), (28, 4)),
    b"\x44\x89": ((2, 1), (3, 8)),  # Matroska: duration
    b"\x2a\xd7\xb1": ((3, 1), (4, 3)),  # scale of its time stamps
    b"\xb5\x88": ((2, 8),),  # sampling frequency
    b"\x1f\x43\xb6\x75": ((4, 8), (12, 4)),  # a cluster
    b"Xing": ((4, 4), (8, 4), (12, 4)),
    b"Info": ((4, 4), (8, 4), (12, 4)),
    b"ID3": ((3, 1), (6, 4)),
    b"\xa1\xdc\xab\x8c": ((40, 8), (64, 8), (72, 8), (80, 4)),  # ASF: properties
    b"avih": ((8, 4), (24, 4), (28, 4), (32, 4)),
    b"strh": ((28, 4), (32, 4), (40, 4)),
    b"wvpk": ((4, 4), (8, 2), (12, 4), (20, 4), (24, 4)),
    b"TTA1": ((4, 2), (6, 2), (8, 2), (10, 4), (14, 4)),
}
LIMITS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
NUMBERS = (*LIMITS, 0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF, 655_350, 5_644_800, 1_000_000_007)
FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-300, 1e300, 3.2e15, 1e9)
HEAD = 2048  # bytes in which most headers are


@dataclass(frozen=True)
class Mutant:
    """A broken file. source: the name of the sound one."""

    number: int
    kind: str
    source: str
    body: bytes


def sound_files(folder: Path) -> dict[str, bytes]:
    """Files of 0.8 s of every format, mono and stereo, by name."""
    files = {}
    for suffix, codec, rate in FORMATS:
        for channels, layout in ((1, "mono"), (2, "stereo")):
            path = folder / f"{codec}-{layout}.{suffix}"
            files[path.name] = write(path, codec, chirp(0.8, rate, channels), rate, layout).read_bytes()
    return files


def mutant(sources: dict[str, bytes], seed: int, number: int) -> Mutant:
    """The mutant of this number, the same for the same sources and seed."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(sorted(sources))
    kind = rng.choice(list(KINDS))
    body = bytearray(sources[name])
    others = [other for other in sorted(sources) if other != name and sources[other]]
    if body:
        body = KINDS[kind](body, rng, sources[rng.choice(others)])
    return Mutant(number, kind, name, bytes(body))


def _flipped(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    reach = len(body) if rng.random() < 0.5 else min(HEAD, len(body))
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        body[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return body


def _cut_off(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return body[: rng.randrange(min(HEAD, len(body)) if rng.random() < 0.3 else len(body))]


def _spliced(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """The header of one file before the rest of another."""
    return body[: rng.randrange(1, min(HEAD, len(body)) + 1)] + other[rng.randrange(min(HEAD, len(other))) :]


def _field(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Absurd rates, counts, sizes and durations in the fields of headers."""
    places = [(at, field) for tag in FIELDS for at in _places(body, tag) for field in FIELDS[tag]]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, (offset, width) = rng.choice(places) if places else (0, (rng.randrange(64), 4))
        _put(body, at + offset, width, rng)
    return body


def _number(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Absurd numbers anywhere in the head."""
    for _ in range(rng.choice((1, 2, 8))):
        _put(body, rng.randrange(min(HEAD, len(body))), rng.choice((1, 2, 4, 8)), rng)
    return body


def _moved(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """A stretch is lost, repeated, or put elsewhere."""
    start, length = rng.randrange(len(body)), rng.choice((1, 16, 512, 8192))
    stretch = body[start : start + length]
    if rng.random() < 0.5:
        del body[start : start + length]
    if rng.random() < 0.7:
        at = rng.randrange(len(body) + 1)
        body[at:at] = stretch * rng.choice((1, 1, 50))
    return body


def _overwritten(body: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """A stretch of zeros, ones or noise, as bad sectors leave."""
    start, length = rng.randrange(len(body)), rng.choice((16, 512, 4096))
    length = min(length, len(body) - start)
    body[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return body


def _places(body: bytearray, tag: bytes) -> list[int]:
    found, at = [], body.find(tag)
    while at >= 0 and len(found) < 8:
        found.append(at)
        at = body.find(tag, at + 1)
    return found


def _put(body: bytearray, at: int, width: int, rng: random.Random) -> None:
    order = rng.choice(("little", "big"))
    value = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, order)
    if width in (4, 8) and rng.random() < 0.2:
        value = struct.pack((">" if order == "big" else "<") + "d", rng.choice(FLOATS))[:width]
    body[at : at + width] = value[: max(0, len(body) - at)]


KINDS: dict[str, Callable[[bytearray, random.Random, bytes], bytearray]] = {
    "bit flips": _flipped,
    "truncation": _cut_off,
    "spliced headers": _spliced,
    "absurd fields": _field,
    "absurd numbers": _number,
    "moved stretches": _moved,
    "overwritten stretches": _overwritten,
}
