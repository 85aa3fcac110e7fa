"""Times are those of the file's clock, and only the audio's own duration shows that a file is cut short."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio.decode import decode, probe
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.vad import find_segments

RATE = 48_000


def write_tracks(
    path: Path, codec: str, lengths: list[float], starts: list[float], gap: tuple[float, float] | None = None
) -> Path:
    """Write one audio track a length (s), each with its start (s); without the frames in gap."""
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream(codec, rate=RATE, layout="mono") for _ in lengths]
        packets = []
        for track, length, start in zip(tracks, lengths, starts, strict=True):
            size = track.codec_context.frame_size or 1024
            resampler = av.AudioResampler(track.format.name, "mono", RATE, frame_size=size)
            frame = av.AudioFrame.from_ndarray(chirp(length)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                if part is not None:
                    part.pts += round(start * RATE)
                packets += list(track.encode(part))
        for packet in sorted(packets, key=lambda p: p.pts * p.time_base):
            at = packet.pts * packet.time_base
            if gap is None or not gap[0] <= at < gap[1]:
                container.mux(packet)
    return path


def lag_s(samples: np.ndarray, written: np.ndarray) -> float:
    """Seconds by which the written sound (its fourth second) is late in decoded samples."""
    piece = written[3 * RATE : 4 * RATE].astype(float)
    size = 1 << (len(samples) + len(piece)).bit_length()
    spectrum = np.fft.rfft(samples.astype(float), size) * np.conj(np.fft.rfft(piece, size))
    return int(np.argmax(np.fft.irfft(spectrum))) / RATE - 3


@pytest.mark.parametrize("name", ["a.mka", "a.mkv", "a.webm"])
@pytest.mark.parametrize("tagged", [True, False])
def test_a_longer_second_track_is_not_the_audio(tmp_path: Path, name: str, tagged: bool) -> None:
    path = write_tracks(tmp_path / name, "libopus", [8, 20], [0, 0])
    if not tagged:
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"XXXXXXXX"))
    whole = decode(str(path))
    assert whole.truncated is None
    assert len(whole.samples) / RATE == pytest.approx(8, abs=0.1)
    beyond = decode(str(path), 12, 16)
    assert (len(beyond.samples), beyond.truncated is None or tagged) == (0, True)
    if tagged:
        assert probe(str(path)).duration_s == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_cut_file_with_two_tracks_is_truncated(tmp_path: Path, tagged: bool) -> None:
    path = write_tracks(tmp_path / "a.mka", "libopus", [18, 20], [0, 0])
    body = path.read_bytes()
    body = body if tagged else body.replace(b"DURATION", b"XXXXXXXX")
    path.write_bytes(body[: len(body) // 2])
    assert decode(str(path)).truncated is not None


@pytest.mark.parametrize("name", ["a.mka", "a.webm", "a.mp4", "a.m4a", "a.mov", "a.nut"])
@pytest.mark.parametrize("start", [4.0, 50.0])
def test_audio_that_starts_late(tmp_path: Path, name: str, start: float) -> None:
    codec = "libopus" if name in ("a.mka", "a.webm") else "aac"
    path = write_tracks(tmp_path / name, codec, [8], [start])
    whole = decode(str(path))
    assert whole.truncated is None
    assert not whole.samples[: int((start - 0.1) * RATE)].any()
    assert lag_s(whole.samples, chirp(8)) == pytest.approx(start, abs=0.03)
    assert probe(str(path)).duration_s == pytest.approx(start + 8, abs=0.1)
    for begin, end in ((0, 2), (start - 1, start + 1), (start + 3, start + 6.5), (1, 3)):
        part = decode(str(path), begin, end)
        np.testing.assert_array_equal(part.samples, whole.samples[round(begin * RATE) : round(end * RATE)])
        assert part.truncated is None


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_audio_that_starts_after_the_video(tmp_path: Path, name: str) -> None:
    """A transport stream's clock starts anywhere; a player counts from the earliest stream."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
        track = container.add_stream("aac", rate=RATE, layout="mono")
        packets = []
        for n in range(100):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), n, np.uint8))
            picture.pts, picture.time_base = n, Fraction(1, 10)
            packets += list(video.encode(picture))
        sound = chirp(7)
        for at in range(0, len(sound), 1024):
            piece = np.pad(sound[at : at + 1024], (0, max(0, at + 1024 - len(sound))))
            frame = av.AudioFrame.from_ndarray(piece[None].astype(np.float32) / 32768, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at + 2 * RATE, Fraction(1, RATE)
            packets += list(track.encode(frame))
        packets += [*video.encode(None), *track.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    whole = decode(str(path))
    assert whole.truncated is None
    assert lag_s(whole.samples, sound) == pytest.approx(2, abs=0.05)
    assert probe(str(path)).duration_s == pytest.approx(9, abs=0.1)
    np.testing.assert_array_equal(decode(str(path), 6, 8).samples, whole.samples[6 * RATE : 8 * RATE])


def test_an_edit_list_that_skips_the_beginning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", "aac", chirp(12))
    body = bytearray(path.read_bytes())
    at = body.index(b"elst")
    body[at + 12 : at + 20] = (10_000).to_bytes(4, "big") + (1024 + 2 * RATE).to_bytes(4, "big")
    path.write_bytes(body)
    whole = decode(str(path))
    assert lag_s(whole.samples, chirp(12)[2 * RATE :]) == pytest.approx(0, abs=0.001)
    assert probe(str(path)).duration_s == pytest.approx(10, abs=0.05)


@pytest.mark.parametrize("name", ["a.mka", "a.webm"])
def test_a_gap_in_the_time_stamps_is_silent(tmp_path: Path, name: str) -> None:
    path = write_tracks(tmp_path / name, "libopus", [12], [0], gap=(5, 9))
    whole = decode(str(path))
    assert whole.truncated is None
    assert not whole.samples[int(5.1 * RATE) : int(8.9 * RATE)].any()
    assert lag_s(whole.samples, chirp(12)) == pytest.approx(0, abs=0.03)
    assert lag_s(whole.samples, chirp(12)[7 * RATE :]) == pytest.approx(7, abs=0.03)
    part = decode(str(path), 4, 7)  # ends in the gap
    np.testing.assert_array_equal(part.samples, whole.samples[4 * RATE : 7 * RATE])


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        *(("adpcm_ima_wav", f"a.{suffix}") for suffix in ("wav", "w64", "avi", "mka", "asf")),
        *(("adpcm_ms", f"a.{suffix}") for suffix in ("wav", "avi")),
        ("adpcm_yamaha", "a.wav"),
        ("adpcm_ima_qt", "a.aiff"),
        ("adpcm_ima_qt", "a.caf"),
        ("adpcm_swf", "a.flv"),
        ("g722", "a.avi"),
        ("g722", "a.wav"),
        ("eac3", "a.avi"),
        ("libmp3lame", "a.wav"),
        ("wmav2", "a.avi"),
        ("pcm_mulaw", "a.wav"),
        ("pcm_s24le", "a.wav"),
    ],
)
def test_codecs_with_another_byte_rate_than_pcm(tmp_path: Path, codec: str, name: str) -> None:
    path = write(tmp_path / name, codec, chirp(7, 44_100), 44_100)
    whole = decode(str(path))
    assert whole.truncated is None
    assert len(whole.samples) / whole.sample_rate == pytest.approx(7, abs=0.1)
    assert probe(str(path)).duration_s == pytest.approx(7, abs=0.1)


CONTAINERS = {"09_audio_late_4s.mp4": 4.0, "late_audio_only.mka": 4.0}  # others: 0


def test_containers_hold_the_speech_at_its_place(shared: Path) -> None:
    plain = decode(str(shared / "cases/manifests/a.wav"))
    expected = [s.start_s for s in find_segments(plain.samples, plain.sample_rate, Segmentation())]
    for path in sorted((shared / "cases/containers").iterdir()):
        pcm = decode(str(path))
        assert pcm.truncated is None, path.name
        late = CONTAINERS.get(path.name, 0.0)
        found = [s.start_s - late for s in find_segments(pcm.samples, pcm.sample_rate, Segmentation())]
        wanted = [start for start in expected if start < len(pcm.samples) / pcm.sample_rate - late]
        assert found == pytest.approx(wanted, abs=0.06), path.name
