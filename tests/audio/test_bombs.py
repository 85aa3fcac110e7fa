"""Small files that state or decode to much more than they hold cost little time and memory."""

import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio.decode import DecodeError, decode, probe

MEMORY = 300 << 20  # beyond that of the idle process

_MEASURE = """
import resource, sys
from zsfuse_ray.audio.decode import DecodeError, decode, probe
from tests.audio.sounds import chirp
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (probe, lambda uri: decode(uri, 0, 300)):
    try:
        read(sys.argv[1])
    except DecodeError as error:
        print(error.reason)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle))
"""


def memory_of(path: Path) -> tuple[list[str], int]:
    """Reasons of failures, and the most memory (bytes) that probing and decoding take in a new process."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    command = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, preexec_fn=limit)
    *reasons, used = done.stdout.split()
    return reasons, int(used)


def png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(bytes((1 + 4 * side) * side), 1)
    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_covers_are_not_decoded(tmp_path: Path) -> None:
    def size(n: int) -> bytes:
        return bytes(n >> shift & 127 for shift in (21, 14, 7, 0))

    picture = png(7_000)
    tags = b""
    for kind in (3, 4, 5):
        body = b"\0image/png\0" + bytes([kind, 65 + kind, 0]) + picture
        tags += b"APIC" + size(len(body)) + b"\0\0" + body
    sound = write(tmp_path / "plain.mp3", "libmp3lame", chirp(2)).read_bytes()
    path = tmp_path / "covers.mp3"
    path.write_bytes(b"ID3\x04\0\0" + size(len(tags)) + tags + sound)
    reasons, used = memory_of(path)
    assert (reasons, used < MEMORY) == ([], True)
    assert len(decode(str(path)).samples) == pytest.approx(2 * 48_000, abs=2_000)


@pytest.mark.parametrize("chunked", [False, True])
def test_samples_beyond_the_bytes_of_an_mp4(tmp_path: Path, chunked: bool) -> None:
    path = write(tmp_path / "a.m4a", "aac", chirp(1))
    body = bytearray(path.read_bytes())
    for kind, place, value in ((b"stsz", 8, 1), (b"stsz", 12, 80_000_000), (b"stts", 12, 80_000_000)):
        at = body.index(kind) + place
        body[at : at + 4] = struct.pack(">I", value)
    if chunked:
        at = body.index(b"stsc") + 16
        body[at : at + 4] = struct.pack(">I", 40_000_000)
    path.write_bytes(body)
    reasons, used = memory_of(path)
    assert (reasons, used < MEMORY) == (["corrupt", "corrupt"], True)


def test_deeply_nested_boxes(tmp_path: Path) -> None:
    body = b"".join(struct.pack(">I", 8 * n) + b"moov" for n in range(5000, 0, -1))
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x10ftypM4A \0\0\0\0" + body)
    with pytest.raises(DecodeError) as caught:
        probe(str(tmp_path / "a.mp4"))
    assert caught.value.reason in ("corrupt", "no_audio_stream", "not_audio")


def checksum(data: bytes, polynomial: int, bits: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & ((1 << bits) - 1)
    return value


def test_flac_with_huge_blocks(tmp_path: Path) -> None:
    """Constant blocks: 35 bytes a block of 65,535 samples in 8 channels."""
    rate, channels, blocks = 655_350, 8, 100
    head = bytes([0xFF, 0xF8, 0x70, (channels - 1) << 4 | 8])
    frames = []
    for n in range(blocks):
        number = bytes([n]) if n < 128 else bytes([0xC0 | n >> 6, 0x80 | n & 63])
        frame = head + number + struct.pack(">H", 65_534)
        frame += bytes([checksum(frame, 7, 8)]) + bytes(3 * channels)
        frames.append(frame + struct.pack(">H", checksum(frame, 0x8005, 16)))
    info = rate << 44 | (channels - 1) << 41 | 15 << 36 | 65_535 * blocks
    stream = struct.pack(">HH", 65_535, 65_535) + bytes(6) + info.to_bytes(8, "big") + bytes(16)
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC\x80" + len(stream).to_bytes(3, "big") + stream + b"".join(frames))
    reasons, used = memory_of(path)
    assert (reasons, used < MEMORY) == ([], True)
    assert len(decode(str(path), 5, 6).samples) == 48_000


@pytest.mark.parametrize("tagged", [True, False])
def test_an_absurd_stated_duration_is_not_planned(tmp_path: Path, tagged: bool) -> None:
    """100,000 years in the header of a Matroska file, or in the time stamp of its last block."""
    path = write(tmp_path / "a.mka", "libopus", chirp(4))
    body = path.read_bytes()
    at = body.index(b"\x44\x89\x88") + 3  # Duration: a float of 8 bytes, in milliseconds
    body = body[:at] + struct.pack(">d", 3.2e15) + body[at + 8 :]
    if not tagged:
        body = body.replace(b"DURATION", b"XXXXXXXX")
    path.write_bytes(body)
    assert probe(str(path)).duration_s == pytest.approx(4, abs=0.1)
    assert len(decode(str(path)).samples) / 48_000 == pytest.approx(4, abs=0.1)


def test_a_time_stamp_far_ahead_is_not_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mka", "libopus", chirp(12), muxer={"live": "1"})
    body = bytearray(path.read_bytes())
    at = body.rindex(b"\x1f\x43\xb6\x75")  # the last cluster
    at = body.index(b"\xe7", at)  # its time stamp
    size = body[at + 1] & 0x7F
    body[at + 2 : at + 2 + size] = b"\x7f" * size
    path.write_bytes(body)
    assert probe(str(path)).duration_s < 200


@pytest.mark.parametrize(("rate", "works"), [(1, False), (100, False), (2_000, True), (8_000, True)])
def test_a_sample_rate_too_low_for_speech(tmp_path: Path, rate: int, works: bool) -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", 8_000) + bytes(range(200)) * 40
    (tmp_path / "a.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    for read in (probe, decode):
        if works:
            read(str(tmp_path / "a.wav"))
            continue
        with pytest.raises(DecodeError) as caught:
            read(str(tmp_path / "a.wav"))
        assert caught.value.reason == "unsupported"
        assert f"{rate} Hz, the minimum is 2000" in str(caught.value)
