import errno
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from zsfuse_ray.archive.bundles import bundle_items
from zsfuse_ray.archive.schemas import BUNDLE, DECODED
from zsfuse_ray.archive.stages import decode as stage
from zsfuse_ray.archive.stages.decode import MOST_TRIES, decode_bundles, decode_item
from zsfuse_ray.audio.demo import PROSODIES, speech_like
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.sources import SourceError

RATE = 8000
LENGTH_S = 600.0
HOW = Segmentation()


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alternating voices of 37 s each, with pauses between phrases, so that items start anywhere in them."""
    voices = [speech_like(37.0, PROSODIES[n % 4], seed=n, rate=RATE) for n in range(17)]
    samples = np.concatenate(voices)[: int(LENGTH_S * RATE)]
    path = tmp_path_factory.mktemp("audio") / "ten minutes.wav"
    soundfile.write(path, (np.clip(samples, -1, 1) * 32767).astype(np.int16), RATE)
    return path


def items_of(path: Path, item_s: float, slice_s: tuple | None = None, exact: bool = True, length=LENGTH_S):
    """The planned items of a recording."""
    start, end = slice_s or (None, None)
    row = {"recording_id": 0, "uri": str(path), "start_s": start, "end_s": end, "probe_duration_s": length}
    row |= {"probe_exact": exact, "probe_reason": None, "plan_part": 0}
    planned = pa.table({name: [value] for name, value in row.items()})
    return [item for bundle in bundle_items(planned, item_s) for item in bundle["items"]]


def decoded(items: list[dict], item_s: float, how: Segmentation = HOW):
    """(item, segment, samples) of all items."""
    return [(item, *found) for item in items for found in decode_item(item, how, item_s)[2]]


@pytest.fixture(scope="module")
def by_length(ten_minutes: Path) -> dict[float, list]:
    return {item_s: decoded(items_of(ten_minutes, item_s), item_s) for item_s in (60.0, 300.0)}


def test_segments_hardly_depend_on_the_length_of_items(by_length: dict[float, list]) -> None:
    short, long = ([(s.start_s, s.end_s) for _, s, _ in found] for found in by_length.values())
    assert len(long) > 60
    same = sum(min(max(abs(s - a), abs(e - b)) for a, b in short) <= 0.05 for s, e in long)
    assert same >= 0.98 * max(len(long), len(short))


@pytest.mark.parametrize("item_s", [60.0, 300.0])
def test_every_stretch_of_speech_is_in_one_item(
    by_length: dict[float, list], ten_minutes: Path, item_s: float
) -> None:
    found = by_length[item_s]
    samples, _ = soundfile.read(ten_minutes, dtype="int16")
    for item, segment, cut in found:
        assert item["start_s"] <= segment.start_s < item["end_s"]
        assert segment.end_s <= LENGTH_S
        # the samples are exactly those of the file at the segment's position
        first = round(segment.start_s * RATE)
        np.testing.assert_array_equal(cut, samples[first : first + len(cut)])
        assert len(cut) == pytest.approx((segment.end_s - segment.start_s) * RATE, abs=1)
    spans = [(segment.start_s, segment.end_s) for _, segment, _ in found]
    assert spans == sorted(spans)
    assert all(earlier[1] <= later[0] + 0.05 for earlier, later in pairwise(spans))


def test_segments_across_items_are_whole(by_length: dict[float, list]) -> None:
    crossing = [(s, cut) for item, s, cut in by_length[60.0] if s.end_s > item["end_s"]]
    assert crossing
    for segment, cut in crossing:
        assert len(cut) / RATE == pytest.approx(segment.end_s - segment.start_s, abs=1e-3)


def test_a_slice_is_decoded_like_a_recording(ten_minutes: Path) -> None:
    """Its segments are inside it, their times are relative to the file, and no surrounding audio is used."""
    begin, end = 33.3, 163.3
    items = items_of(ten_minutes, 60.0, (begin, end))
    assert len(items) == 3
    found = decoded(items, 60.0)
    assert len(found) > 10
    assert all(begin <= s.start_s < s.end_s <= end + 1e-3 for _, s, _ in found)
    samples, _ = soundfile.read(ten_minutes, dtype="int16")
    for _, segment, cut in found:
        first = round(segment.start_s * RATE)
        assert any(np.array_equal(cut, samples[k : k + len(cut)]) for k in (first - 1, first, first + 1))
    assert sum(decode_item(item, HOW, 60.0)[0] for item in items) == pytest.approx(130.0, abs=0.01)


def test_audio_of_all_items_adds_up_to_the_recording(ten_minutes: Path) -> None:
    how = Segmentation("none")
    outcomes = [decode_item(item, how, 60.0) for item in items_of(ten_minutes, 60.0)]
    assert sum(outcome[0] for outcome in outcomes) == pytest.approx(LENGTH_S)
    assert {outcome[1] for outcome in outcomes} == {RATE}
    assert {outcome[3] for outcome in outcomes} == {None}
    spans = [(s.start_s, s.end_s) for outcome in outcomes for s, _ in outcome[2]]
    assert len(spans) == 60
    assert all(10.0 * k <= start < end <= 10.0 * (k + 1) for k, (start, end) in enumerate(spans))


def test_a_recording_longer_than_its_header_is_decoded_to_its_end(ten_minutes: Path) -> None:
    items = items_of(ten_minutes, 60.0, exact=False, length=550.0)
    audio_s, _, _, cut_short, _ = decode_item(items[-1], HOW, 60.0)
    assert (items[-1]["start_s"] + audio_s, cut_short) == (LENGTH_S, None)


@pytest.mark.parametrize("exact", [True, False])
def test_a_recording_shorter_than_its_header(ten_minutes: Path, exact: bool) -> None:
    """Reported as truncated if the header's duration is exact, accepted if it is an estimate."""
    items = items_of(ten_minutes, 60.0, exact=exact, length=725.0)
    last, beyond = (decode_item(items[k], HOW, 60.0) for k in (-4, -1))
    assert last[0] == pytest.approx(60.0)
    assert (beyond[0], beyond[2]) == (0.0, [])
    assert (beyond[3] is not None) == exact


def table_of(*items: dict) -> pa.Table:
    numbered = [item | {"item_id": n, "recording_id": n} for n, item in enumerate(items)]
    return pa.Table.from_pylist([{"bundle_id": 3, "part": 7, "items": numbered}], schema=BUNDLE)


def test_a_bundle_contains_the_concatenated_audio_of_its_segments(ten_minutes: Path, tmp_path: Path) -> None:
    (tmp_path / "no audio.wav").write_text("To whom it may concern")
    good = items_of(ten_minutes, 60.0)[:2]
    broken = good[0] | {"uri": str(tmp_path / "no audio.wav")}
    gone = good[0] | {"uri": str(tmp_path / "gone.wav")}
    rows = decode_bundles(table_of(good[0], broken, good[1], gone), HOW, 60.0)
    assert rows.schema == DECODED
    (row,) = rows.to_pylist()
    assert (row["bundle_id"], row["part"]) == (3, 7)
    assert [item["reason"] is None for item in row["items"]] == [True, False, True, False]
    assert row["items"][3]["reason"] == "not_found"
    for item in (row["items"][1], row["items"][3]):
        assert (item["stage"], item["audio_s"]) == ("decode", 0.0)
        assert item["message"]
    assert {item["planned_s"] for item in row["items"]} == {60.0}
    expected = [
        (item_id, *found[1:])
        for item_id, item in ((0, good[0]), (2, good[1]))
        for found in decoded([item], 60.0)
    ]
    assert [(s["item_id"], s["start_s"]) for s in row["segments"]] == [(i, s.start_s) for i, s, _ in expected]
    assert {s["sample_rate"] for s in row["segments"]} == {RATE}
    pcm = np.frombuffer(row["pcm"], np.int16)
    ends = np.cumsum([s["samples"] for s in row["segments"]])
    for cut, (_, _, samples) in zip(np.split(pcm, ends[:-1]), expected, strict=True):
        np.testing.assert_array_equal(cut, samples)


def test_any_error_in_an_item_is_one_reject(ten_minutes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_, **__):
        raise ZeroDivisionError("deep in a decoder,\nat https://me:hunter2@host/a")

    monkeypatch.setattr(stage, "decode_channels", broken)
    (row,) = decode_bundles(table_of(items_of(ten_minutes, 60.0)[0]), HOW, 60.0).to_pylist()
    (item,) = row["items"]
    assert item["reason"] == "decoder_error"
    assert item["message"] == "ZeroDivisionError: deep in a decoder, at https://host/a"
    assert (row["segments"], row["pcm"]) == ([], b"")


def test_an_item_is_rejected_after_too_many_crashes(ten_minutes: Path) -> None:
    """Each item is decoded in its own attempt; one with too many attempts is not decoded again."""
    started, ended = [], []

    @contextmanager
    def attempt(item_id: int) -> Iterator[int]:
        started.append(item_id)
        yield MOST_TRIES + (item_id == 0)
        ended.append(item_id)

    good = items_of(ten_minutes, 60.0)[:2]
    (row,) = decode_bundles(table_of(*good), HOW, 60.0, attempt).to_pylist()
    assert [item["reason"] for item in row["items"]] == ["crashed", None]
    assert {segment["item_id"] for segment in row["segments"]} == {1}
    assert started == ended == [0, 1]


@pytest.mark.parametrize(
    ("uri", "reason", "stops"),
    [
        ("s3://b/a.wav", "unreachable", True),
        ("s3://b/a.wav", "denied", True),
        ("s3://b/a.wav", "not_found", False),
        ("https://h.invalid/a.wav", "unreachable", True),
        ("https://h.invalid/a.wav", "not_found", False),
    ],
)
def test_an_unreachable_store_stops_the_run(
    uri: str, reason: str, stops: bool, ten_minutes, monkeypatch
) -> None:
    """Its items must not count as processed."""

    def fail(*_, **__):
        raise SourceError(reason, "no answer")

    monkeypatch.setattr(stage, "decode_channels", fail)
    monkeypatch.setattr("zsfuse_ray.audio.outages.PATIENCE_S", ())
    batch = table_of(items_of(ten_minutes, 60.0)[0] | {"uri": uri})
    if stops:
        with pytest.raises(SourceError):
            decode_bundles(batch, HOW, 60.0)
    else:
        (row,) = decode_bundles(batch, HOW, 60.0).to_pylist()
        assert row["items"][0]["reason"] == reason


@pytest.mark.parametrize("max_segment_s", [10.0, 7.0])
def test_silent_edges_of_windows_are_trimmed_in_every_item(tmp_path: Path, max_segment_s: float) -> None:
    """Bursts between silences, some across item boundaries: each is in one segment with little silence."""
    rate = 8000
    audio = np.zeros(60 * rate, np.int16)
    bursts = [(0.5, 2.0), (13.0, 14.5), (19.5, 20.6), (33.0, 34.0), (50.0, 53.0)]
    rng = np.random.default_rng(0)
    for start, end in bursts:
        first, last = int(start * rate), int(end * rate)
        audio[first:last] = rng.normal(0, 4000, last - first)
    path = tmp_path / "bursts.wav"
    soundfile.write(path, audio, rate)
    how = Segmentation("none", max_segment_s=max_segment_s)
    found = {item_s: decoded(items_of(path, item_s, length=60.0), item_s, how) for item_s in (20.0, 60.0)}
    spans = [[(s.start_s, s.end_s) for _, s, _ in found[item_s]] for item_s in found]
    assert spans[0] == spans[1]
    kept = np.zeros(len(audio), bool)
    for (start, end), (_, _, samples) in zip(spans[0], found[60.0], strict=True):
        first = round(start * rate)
        assert np.array_equal(samples, audio[first : first + len(samples)])
        assert len(samples) == round((end - start) * rate)
        kept[first : first + len(samples)] = True
    assert not audio[~kept].any()
    margin = int(0.13 * rate)
    for _, _, samples in found[60.0]:
        assert not samples.any() or (samples[:margin].any() and samples[-margin:].any())


def test_a_full_disk_is_not_the_fault_of_an_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as of the temporary folder for downloads; the item must not be rejected for it."""
    item = {"item_id": 0, "recording_id": 0, "uri": "x.wav", "start_s": 0.0, "end_s": 1.0}

    def fails(*_: object) -> None:
        raise OSError(number, "x")

    monkeypatch.setattr(stage, "decode_item", fails)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):  # noqa: B007 (used in fails)
        with pytest.raises(OSError, match="x"):
            stage.try_item(item, Segmentation(), 300.0, 1)
    number = errno.EIO  # a bad sector
    outcome, _, segments = stage.try_item(item, Segmentation(), 300.0, 1)
    assert (outcome["stage"], segments) == ("decode", [])
