"""Decoding of training clips, and clips in the object store."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from tests.jobs.jobs_support import speech, write_wav
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.training import clips
from zsfuse_ray.training.clips import StoredClips, decoded_clip


def test_clip_is_trimmed_and_resampled_to_the_models_rate(tmp_path: Path) -> None:
    voice = speech(1.0, rate=48_000)
    silence = np.zeros(48_000)
    path = write_wav(tmp_path / "a.wav", np.concatenate([silence, voice, silence]), 48_000)
    samples = decoded_clip(str(path), None, None, 16_000)
    assert samples.dtype == np.int16
    assert 0.9 < len(samples) / 16_000 < 1.4
    alone = decoded_clip(str(path), 1.0, 2.0, 16_000)
    assert 0.7 < len(alone) / 16_000 <= 1.0


def test_a_clip_at_the_models_rate_keeps_its_samples(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", speech(1.0))
    samples = decoded_clip(str(path), None, None, 16_000)
    whole = (np.clip(speech(1.0), -1, 1) * 32767).astype("<i2")
    at = next(i for i in range(len(whole)) if (whole[i : i + len(samples)] == samples).all())
    assert at >= 0


def test_silent_clips_are_rejected(tmp_path: Path) -> None:
    silent = write_wav(tmp_path / "a.wav", np.zeros(16_000))
    with pytest.raises(DecodeError, match="no sound"):
        decoded_clip(str(silent), None, None, 16_000)


def test_file_that_repeatedly_kills_its_process_is_left_out(tmp_path: Path, monkeypatch: Any) -> None:
    good = write_wav(tmp_path / "good.wav", speech(1.0))
    rows = [{"row": i, "uri": str(good), "start_s": None, "end_s": None} for i in range(2)]
    calls: list[tuple[str, int]] = []

    class Tally:
        class begin:
            remote = staticmethod(lambda row: calls.append(("begin", row)) or (1 if row else 9))

        class end:
            remote = staticmethod(lambda row: calls.append(("end", row)))

    monkeypatch.setattr(clips.ray, "get", lambda value: value)
    found = clips._decode_batch(pa.Table.from_pylist(rows), 16_000, Tally()).to_pylist()
    assert found[0]["problem"].startswith("crashed")
    assert (found[0]["pcm"], found[1]["problem"]) == (b"", None)
    assert len(found[1]["pcm"]) > 20_000
    assert calls == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]


def test_fetch_returns_rows_from_their_blocks(monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.integers(-9, 9, 5 + i).astype(np.int16) for i in range(6)]
    order = [[4, 0], [5, 3, 1, 2]]
    blocks = [
        pa.table({"pcm": pa.array([samples[r].tobytes() for r in rows], pa.large_binary())}) for rows in order
    ]
    places = np.array(
        [next((b, rows.index(r)) for b, rows in enumerate(order) if r in rows) for r in range(6)]
    )
    monkeypatch.setattr(ray, "get", lambda refs: [blocks[ref] for ref in refs])
    stored = StoredClips([0, 1], places, np.array([len(s) for s in samples]), {3: "bad"})
    for wanted in ([0, 1, 2, 3, 4, 5], [5, 5, 0], [2]):
        for row, found in zip(wanted, stored.fetch(wanted), strict=True):
            np.testing.assert_array_equal(found, samples[row])
    kept = stored.keep(np.array([1, 4]))
    np.testing.assert_array_equal(kept.fetch([1])[0], samples[4])
