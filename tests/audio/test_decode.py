import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio.decode import DecodeError, Pcm, decode, probe
from zsfuse_ray.audio.sources import AudioError

RATE = 48_000
FORMATS = {
    "wav": "pcm_s16le",
    "aiff": "pcm_s16be",
    "flac": "flac",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "aac": "aac",
    "mkv": "aac",
    "ts": "aac",
    "opus": "libopus",
    "webm": "libopus",
    "ogg": "flac",
    "wma": "wmav2",
    "ac3": "ac3",
    "mp2": "mp2",
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for suffix, codec in FORMATS.items():
        rate = 44_100 if suffix == "wma" else RATE
        write(folder / f"a.{suffix}", codec, chirp(46, rate), rate)
    return folder


def assert_slices_equal_whole(path: Path, slices: list[tuple[float, float]]) -> Pcm:
    whole = decode(str(path))
    rate = whole.sample_rate
    for start, end in slices:
        part = decode(str(path), start, end)
        np.testing.assert_array_equal(part.samples, whole.samples[round(start * rate) : round(end * rate)])
        assert part.start_s == start
    return whole


@pytest.mark.parametrize("suffix", FORMATS)
def test_slices_equal_the_whole_decoding(sounds: Path, suffix: str) -> None:
    path = sounds / f"a.{suffix}"
    whole = assert_slices_equal_whole(path, [(4, 12), (20, 24), (40, 44), (33.337, 34.001), (18.5, 41.7)])
    assert whole.truncated is None
    assert len(whole.samples) / whole.sample_rate == pytest.approx(46, abs=0.1)
    assert probe(str(path)).duration_s == pytest.approx(46, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "opus", "webm"])
def test_decoded_audio_is_at_the_right_position(sounds: Path, suffix: str) -> None:
    part = decode(str(sounds / f"a.{suffix}"), 30, 31)
    written = chirp(46)[30 * RATE : 31 * RATE].astype(float)
    middle = written[4_800:-4_800]
    correlation = [
        np.dot(middle, part.samples[4_800 + lag : 4_800 + lag + len(middle)].astype(float))
        for lag in range(-1_500, 1_501, 4)
    ]
    # Encoders add a delay of up to a frame, only partly compensated by their headers.
    assert abs(int(np.argmax(correlation)) * 4 - 1_500) <= 1_200


def test_16_bit_mono_is_bit_exact(sounds: Path) -> None:
    for suffix in ("wav", "flac", "aiff"):
        np.testing.assert_array_equal(decode(str(sounds / f"a.{suffix}")).samples, chirp(46))


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    planes = chirp(1, channels=2)
    path = write(tmp_path / "a.wav", "pcm_s16le", planes, layout="stereo")
    np.testing.assert_array_equal(decode(str(path)).samples, np.rint(planes.mean(axis=0)).astype(np.int16))


@pytest.mark.parametrize(("codec", "suffix", "atol"), [("pcm_s16le", "wav", 1), ("aac", "m4a", 1500)])
def test_eight_channels_packed_and_planar(tmp_path: Path, codec: str, suffix: str, atol: int) -> None:
    planes = chirp(1, channels=8)
    path = write(tmp_path / f"a.{suffix}", codec, planes, layout="7.1", bit_rate=512_000)
    assert probe(str(path)).channels == 8
    np.testing.assert_allclose(decode(str(path)).samples[:RATE], planes.mean(axis=0), atol=atol)


def test_too_many_channels_is_an_error(tmp_path: Path) -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 65, 8_000, 1_040_000, 130, 16)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", 13_000) + bytes(13_000)
    (tmp_path / "a.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    with pytest.raises(DecodeError) as caught:
        decode(str(tmp_path / "a.wav"))
    assert caught.value.reason == "too_many_channels"


def test_high_rates_are_resampled_to_48_khz_and_slices_match(tmp_path: Path) -> None:
    for rate in (88_200, 96_000, 192_000):
        path = write(tmp_path / f"{rate}.wav", "pcm_s16le", chirp(8, rate), rate)
        whole = assert_slices_equal_whole(path, [(4, 6), (5.123, 5.2), (0, 1)])
        assert whole.sample_rate == 48_000
        assert probe(str(path)).sample_rate == rate
        inner = slice(4_800, -4_800)
        error = whole.samples[inner].astype(float) - chirp(8)[inner]
        assert np.sqrt(np.mean(error**2)) < 400  # the noise differs between rates


def test_nan_and_infinite_samples_count_as_silence(tmp_path: Path) -> None:
    values = np.full(800, 0.5, "<f4")
    values[100], values[200], values[300], values[400] = np.nan, np.inf, -np.inf, 7.0
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 8_000, 32_000, 4, 32)
    data = struct.pack("<4sI", b"data", values.nbytes) + values.tobytes()
    body = b"WAVE" + fmt + data
    (tmp_path / "a.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    samples = decode(str(tmp_path / "a.wav")).samples
    assert samples[[100, 200, 300]].tolist() == [0, 0, 0]
    assert samples[400] == 32_767
    assert np.all(np.delete(samples, [100, 200, 300, 400]) == 16_384)


def test_wrong_and_unusual_file_names(sounds: Path, tmp_path: Path) -> None:
    body = (sounds / "a.flac").read_bytes()
    for name in ("a.mp3", "b", "größe 音 100%d #1?.flac", "a.txt"):
        (tmp_path / name).write_bytes(body)
        assert len(decode(str(tmp_path / name), 1, 2).samples) == RATE


def test_very_short_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", chirp(0.1, 8_000), 8_000)
    assert len(decode(str(path)).samples) == 800
    assert probe(str(path)).duration_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("a.wav", b"", "empty"),
        ("a.mp3", b"hello world\n" * 1000, "not_audio"),
        ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500), "not_audio"),
        ("a.m4a", b"\x00\x00\x00\x18ftypM4A " + bytes(400), "corrupt"),
        ("a.flac", b"fLaC" + bytes(400), "corrupt"),
        (
            "a.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n",
            "not_audio",
        ),
        ("a.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 5004 RTP/AVP 0\n", "not_audio"),
    ],
)
def test_non_audio_files_are_errors(tmp_path: Path, name: str, body: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(body)
    for read in (probe, decode):
        with pytest.raises(DecodeError) as caught:
            read(str(tmp_path / name))
        assert caught.value.reason == reason
        assert len(str(caught.value)) <= 300
        assert "\n" not in str(caught.value)


def test_encrypted_file_is_drm(tmp_path: Path) -> None:
    keys = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    path = write(tmp_path / "a.mp4", "aac", chirp(2), muxer=keys)
    with pytest.raises(DecodeError) as caught:
        decode(str(path))
    assert caught.value.reason == "drm"


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "webm"])
def test_truncated_file_gives_its_readable_part(sounds: Path, tmp_path: Path, suffix: str) -> None:
    body = (sounds / f"a.{suffix}").read_bytes()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(body[: len(body) // 2])
    part = decode(str(path))
    assert part.truncated is not None
    assert 15 * RATE < len(part.samples) < 35 * RATE
    whole = decode(str(sounds / f"a.{suffix}"))
    np.testing.assert_array_equal(part.samples[: 15 * RATE], whole.samples[: 15 * RATE])
    beyond = decode(str(path), 40, 44)
    assert len(beyond.samples) == 0
    assert beyond.start_s == 40
    assert beyond.truncated is not None


def test_damaged_part_is_silent_and_later_audio_keeps_its_position(sounds: Path, tmp_path: Path) -> None:
    body = bytearray((sounds / "a.m4a").read_bytes())
    middle = len(body) // 2
    body[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    (tmp_path / "a.m4a").write_bytes(body)
    whole, damaged = decode(str(sounds / "a.m4a")), decode(str(tmp_path / "a.m4a"))
    assert damaged.truncated is not None
    assert len(damaged.samples) == len(whole.samples)
    np.testing.assert_array_equal(damaged.samples[41 * RATE :], whole.samples[41 * RATE :])


def test_durations_missing_from_the_header(sounds: Path, tmp_path: Path) -> None:
    wav = bytearray((sounds / "a.wav").read_bytes())
    at = wav.index(b"data") + 4
    wav[4:8] = wav[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(wav)
    write(tmp_path / "live.webm", "libopus", chirp(12), muxer={"live": "1"})
    write(tmp_path / "bare.mp3", "libmp3lame", chirp(12), muxer={"write_xing": "0"}, bit_rate=32_000)
    mp3 = (sounds / "a.mp3").read_bytes()
    (tmp_path / "joined.mp3").write_bytes(mp3 + mp3)
    one, other = (write(tmp_path / f"{i}.opus", "libopus", chirp(6)).read_bytes() for i in range(2))
    (tmp_path / "joined.opus").write_bytes(one + other)
    for name, seconds in {"streamed.wav": 46, "live.webm": 12, "bare.mp3": 12, "joined.mp3": 92}.items():
        assert probe(str(tmp_path / name)).duration_s == pytest.approx(seconds, abs=0.1), name
        whole = assert_slices_equal_whole(tmp_path / name, [(seconds - 4, seconds - 1)])
        assert len(whole.samples) / RATE == pytest.approx(seconds, abs=0.1), name
    if one[14:18] != other[14:18]:  # serial numbers are random; those of concatenated streams must differ
        assert probe(str(tmp_path / "joined.opus")).duration_s == pytest.approx(12, abs=0.1)
        assert_slices_equal_whole(tmp_path / "joined.opus", [(4, 8), (8, 11)])


def test_end_of_recording_max_s_and_empty_slices(sounds: Path) -> None:
    path = str(sounds / "a.m4a")
    assert decode(path, 45, 400).truncated is None  # the recording ends earlier
    cut = decode(path, 2, max_s=3)
    assert len(cut.samples) == 3 * RATE
    assert cut.truncated is not None
    assert len(decode(path, 5, 5).samples) == 0
    assert decode(path, 5, 5).truncated is None


def test_timeout_is_an_error(sounds: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(str(sounds / "a.m4a"), timeout_s=0)
    assert caught.value.reason == "timeout"


def test_impossible_stated_duration_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", "flac", chirp(1))
    body = bytearray(path.read_bytes())
    body[22:26] = b"\xff\xff\xff\xff"  # STREAMINFO: total samples
    path.write_bytes(body)
    assert probe(str(path)).duration_s == pytest.approx(1, abs=0.1)
    assert len(decode(str(path)).samples) == RATE


def test_odd_files_decode_or_fail_with_a_reason(shared: Path) -> None:
    outcomes: dict[str, str] = {}
    for file in sorted((shared / "odd").iterdir()):
        started = time.monotonic()
        try:
            outcomes[file.name] = "decoded" if len(decode(str(file)).samples) else "nothing"
        except AudioError as error:
            outcomes[file.name] = error.reason
        assert time.monotonic() - started < 5, file.name
    assert set(outcomes.values()) <= {"decoded", "empty", "not_audio", "corrupt", "no_audio_stream"}, outcomes
    assert list(outcomes.values()).count("decoded") >= 110
    assert outcomes["mutagen__emptyfile.mp3"] == "empty"
    assert outcomes["mutagen__image.jpg"] == "not_audio"
    assert outcomes["mutagen__truncated-64bit.mp4"] == "corrupt"
    assert outcomes["tinytag__ilbm.aiff"] in ("no_audio_stream", "not_audio")


def test_slices_of_real_recordings(shared: Path) -> None:
    for file in sorted((shared / "longform" / "mixed").iterdir()):
        whole = decode(str(file), 0, 50)
        rate = whole.sample_rate
        for start, end in ((4, 8), (20, 28), (40, 44)):
            part = decode(str(file), start, end)
            expected = whole.samples[start * rate : end * rate]
            np.testing.assert_array_equal(part.samples, expected, err_msg=os.fspath(file))


def test_overlapping_timestamps_of_a_real_podcast(shared: Path) -> None:
    assert_slices_equal_whole(shared / "longform/podcast/episode-54.m4a", [(20, 44), (80, 90), (140, 160)])
