"""Measured speed of the models: the arithmetic, and the shipped models on the demo archive."""

from pathlib import Path

import pytest

from tests.archive.encoded_folders import MODELS
from tests.archive.growing_archives import grow
from zsfuse_ray.archive import console, measure
from zsfuse_ray.archive.estimate import encoded_bytes, models_on_sample
from zsfuse_ray.archive.measure import Measured
from zsfuse_ray.archive.wanted import requested
from zsfuse_ray.config.score import PlanConfig

# 2 s for 40 s of speech, and a third of the archive is speech: one minute per hour of audio
MEASURED = Measured(
    on_gpu=False,
    encode_s=2.0,
    encoded_s=40.0,
    speech_s=100.0,
    audio_s=300.0,
    models={"alm": MODELS["alm"]},
    repeats={"alm": (1, 2)},
)


def test_only_speech_takes_device_time() -> None:
    assert MEASURED.seconds_per_hour == pytest.approx(60)


def test_cost_text() -> None:
    first, second = console.cost_text(720.0, MEASURED, None).splitlines()
    assert first == (
        "models: about 60 s of one CPU core per hour of audio (measured on 40 s of speech), "
        "12 CPU core hours in total"
    )
    size = console.bytes_text(encoded_bytes(720.0, MEASURED.models, MEASURED.repeats))
    assert second == f"encoded/ will take about {size} with these models"
    priced = console.cost_text(720.0, MEASURED, 0.5).splitlines()[0]
    assert priced == f"{first}: about 6 at 0.5 per hour, not including decoding"
    large = console.cost_text(720_000.0, MEASURED, 0.123).splitlines()[0]
    assert large.endswith(
        "12,000 CPU core hours in total: about 1,476 at 0.123 per hour, not including decoding"
    )
    assert "not measured" in console.cost_text(720.0, None, 0.5)


def row(*lengths: int, rate: int = 10, recording: int = 0) -> dict:
    """A DECODED row with segments of these lengths in samples."""
    spans = [{"samples": samples, "sample_rate": rate} for samples in lengths]
    return {"items": [{"audio_s": 100.0}], "segments": spans, "pcm": bytes(2 * sum(lengths))}


def test_a_row_is_cut_after_a_segment() -> None:
    whole = row(20, 30, 10)
    assert [len(measure._cut(whole, s)["segments"]) for s in (0, 1.9, 2, 2.1, 5, 9)] == [1, 1, 1, 2, 2, 3]
    assert len(measure._cut(whole, 2.1)["pcm"]) == 100
    assert measure._cut(row(), 5)["segments"] == []


@pytest.mark.parametrize(
    ("recordings", "used", "encoded_s"),
    [
        ([0], 1, 60.0),  # the only recording
        ([0, 1], 2, 60.0),
        ([0, 1, 2, 3], 3, 60.0),  # 20 s of each
        ([0, 0, 0, 0], 1, 60.0),
    ],
)
def test_a_sample_covers_several_recordings(
    monkeypatch: pytest.MonkeyPatch, recordings: list[int], used: int, encoded_s: float
) -> None:
    monkeypatch.setattr(measure, "_decoded", lambda items, config: (row(*[50] * 20) for _ in items))
    items = [{"recording_id": recording} for recording in recordings]
    sample, speech_s, audio_s = measure._sample(items, PlanConfig(input="x", output="y"), 60.0)
    assert (len(sample["items"]), speech_s, audio_s) == (used, 100.0 * used, 100.0 * used)
    assert measure._seconds(sample["segments"]) == encoded_s
    assert len(sample["pcm"]) == 2 * 10 * encoded_s


def test_the_shipped_models_on_the_demo(tmp_path: Path) -> None:
    config = PlanConfig(input="demo", output=str(tmp_path / "out"), measure=True, audio_repeats=(1, 2))
    plan, _ = grow(config)
    found = models_on_sample(plan, config, requested(config, {}), 0)
    assert found is not None
    assert not found.on_gpu
    assert found.encoded_s == pytest.approx(found.speech_s)
    assert 0 < found.speech_s < found.audio_s
    assert found.audio_s == pytest.approx(3600 * plan.total("hours"), abs=1)
    assert 1 < found.seconds_per_hour < 3600  # small models are faster than real time
    assert {key: facts["model"] for key, facts in found.models.items()} == config.models
    assert found.repeats == {"alm": (1, 2), "specialist": ()}


def test_silence_gives_no_measurement(archive: Path, folder: Path) -> None:
    config = PlanConfig(input=str(archive), output=str(folder), item_s=20.0, measure=True)
    plan, _ = grow(config)
    assert models_on_sample(plan, config, requested(config, {}), 0) is None
