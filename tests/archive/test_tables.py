"""The summaries against loops in plain Python over the same rows."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from zsfuse_ray.archive import tables
from zsfuse_ray.archive.output import BUNDLES, ITEMS, RECORDINGS_PLANNED, SEGMENTS, Output
from zsfuse_ray.archive.plan import bundle_items
from zsfuse_ray.archive.rows import BUNDLE, SCORED
from zsfuse_ray.archive.tables import ARC_PARTS, SEGMENTS_PER_ITEM, carried, effective_repetition, flatten
from zsfuse_ray.method.amplify import effect

LABELS = ("angry", "pleasant surprise", "sad")
COLUMNS = ("angry", "pleasant_surprise", "sad")
PARTS = {"specialist": ("angry", "sad"), "alm": LABELS}  # this specialist knows no surprise
ITEM_S = 20.0
SECRET = "hunter2"


def planned_rows() -> list[dict]:
    """Five recordings: a long one, a slice, a silent one, one that breaks in decoding, an unreadable one."""
    rows = []
    for n, (duration, start, end, reason) in enumerate(
        [(50.0, None, None, None), (90.0, 30.0, 45.0, None), (8.0, None, None, None), (9.0, None, None, None),
         (None, None, None, "corrupt")]
    ):  # fmt: skip
        row = {"recording_id": n, "uri": f"https://me:{SECRET}@host/{n}.wav?token={SECRET}", "start_s": start}
        row |= {"end_s": end, "size": None, "emotion": f"e{n}", "label": f"theirs {n}"}
        row |= {"probe_duration_s": duration, "probe_exact": True, "probe_reason": reason}
        rows.append(row | {"probe_message": reason and "it broke"})
    return rows


def posterior(rng: np.random.Generator) -> list[float]:
    return rng.dirichlet(np.ones(len(LABELS))).astype(np.float32).tolist()


def scored_rows(bundles: list[dict], rng: np.random.Generator) -> list[dict]:
    """SCORED rows as a run would write them: segments that start in their items, 0 to 4 in each."""
    rows = []
    for bundle in bundles:
        done, segments = [], []
        for item in bundle["items"]:
            outcome = {"item_id": item["item_id"], "recording_id": item["recording_id"], "audio_s": 0.0}
            if item["recording_id"] == 3:
                done.append(outcome | {"stage": "decode", "reason": "corrupt", "message": "no frame"})
                continue
            length = item["end_s"] - item["start_s"]
            done.append(outcome | {"audio_s": length, "stage": None, "reason": None, "message": None})
            count = 0 if item["recording_id"] == 2 else int(rng.integers(1, 5))
            for start in np.sort(rng.uniform(item["start_s"], item["end_s"], count)):
                start_s, seconds = float(item["slice_start_s"] + start), float(rng.uniform(0.5, 4))
                p = posterior(rng)
                segment = {"item_id": item["item_id"], "start_s": start_s, "end_s": start_s + seconds}
                segment |= {"speech_prob": 0.9, "samples": int(seconds * 8000), "sample_rate": 8000}
                segment |= {"label": LABELS[int(np.argmax(p))], "confidence": max(p), "entropy": 0.5, "p": p}
                segments.append(segment | {"specialist": posterior(rng), "alm": posterior(rng)})
        rows.append({"bundle_id": bundle["bundle_id"], "items": done, "segments": segments})
        rows[-1]["encoder_inputs"] = len(segments) + 1
    return rows


@pytest.fixture
def planned() -> pa.Table:
    return pa.Table.from_pylist(planned_rows())


@pytest.fixture
def rows(planned: pa.Table) -> list[dict]:
    return scored_rows(list(bundle_items(planned, ITEM_S)), np.random.default_rng(0))


@pytest.fixture
def out(tmp_path: Path, planned: pa.Table, rows: list[dict]) -> Output:
    """A run's folder as it is before compaction, and segments/ of it."""
    out = Output.open(str(tmp_path))
    out.write_table(RECORDINGS_PLANNED, planned)
    out.write_table(BUNDLES, pa.Table.from_pylist(list(bundle_items(planned, ITEM_S)), schema=BUNDLE))
    for n, row in enumerate(rows):
        out.write_table(f"{ITEMS}/{n}.parquet", pa.Table.from_pylist([row], schema=SCORED))
        flat = flatten(pa.Table.from_pylist([row], schema=SCORED), tables._planned(out), LABELS, PARTS)
        out.write_table(f"{SEGMENTS}/{n}.parquet", flat)
    return out


def summaries(out: Output) -> tuple[pa.Table, pa.Table]:
    """Recordings and rejects, in the way compact() makes them."""
    planned, done = tables._planned(out), tables._items_done(out)
    recordings = tables._recordings(out, planned, done, LABELS)
    return recordings, tables._rejects(out, planned, done, recordings)


def every_segment(rows: list[dict]) -> list[tuple[int, dict]]:
    """(recording, segment) of all rows, by recording and time."""
    owner = {item["item_id"]: item["recording_id"] for row in rows for item in row["items"]}
    found = [(owner[segment["item_id"]], segment) for row in rows for segment in row["segments"]]
    return sorted(found, key=lambda pair: (pair[0], pair[1]["start_s"]))


def test_flatten_has_one_row_a_segment(rows: list[dict], planned: pa.Table) -> None:
    flat = flatten(pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, PARTS)
    expected = every_segment(rows)
    places: Counter[int] = Counter()
    assert len(flat) == len(expected) > 10
    for row, (recording_id, segment) in zip(flat.to_pylist(), expected, strict=True):
        item_id = segment["item_id"]
        assert row["recording_id"] == recording_id
        assert row["recording_uri"] == planned["uri"][recording_id].as_py()
        assert row["segment_id"] == item_id * SEGMENTS_PER_ITEM + places[item_id]
        places[item_id] += 1
        assert {name: row[name] for name in ("item_id", "start_s", "end_s", "label")} == {
            name: segment[name] for name in ("item_id", "start_s", "end_s", "label")
        }
        for part in ("p", "specialist", "alm"):
            for name, probability in zip(COLUMNS, np.float32(segment[part]), strict=True):
                if (part, name) != ("specialist", "pleasant_surprise"):
                    assert row[f"{part}_{name}"] == probability
        assert row["emotion"] == f"e{recording_id}"
        assert row["manifest_label"] == f"theirs {recording_id}"  # beside the label of this run
        assert "specialist_pleasant_surprise" not in row
    assert len(set(flat["segment_id"].to_pylist())) == len(flat)


def test_flatten_does_not_depend_on_how_rows_are_batched(rows: list[dict], planned: pa.Table) -> None:
    whole = pa.Table.from_pylist(rows, schema=SCORED)
    pieces = [flatten(whole.slice(k, 1), planned, LABELS, PARTS) for k in range(len(rows))]
    keys = [("recording_id", "ascending"), ("start_s", "ascending")]
    assert pa.concat_tables(pieces).sort_by(keys).equals(flatten(whole, planned, LABELS, PARTS))


def test_flatten_without_a_part_has_no_columns_of_it(rows: list[dict], planned: pa.Table) -> None:
    for row in rows:
        for segment in row["segments"]:
            segment["alm"] = None
    names = flatten(
        pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, {"specialist": LABELS}
    ).column_names
    assert "specialist_sad" in names
    assert not any(name.startswith("alm_") for name in names)


@pytest.mark.parametrize("silent", ["no rows", "rows without segments"])
def test_no_segments_still_have_all_columns(rows: list[dict], planned: pa.Table, silent: str) -> None:
    full = flatten(pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, PARTS)
    quiet = [] if silent == "no rows" else [row | {"segments": []} for row in rows]
    flat = flatten(pa.Table.from_pylist(quiet, schema=SCORED), planned, LABELS, PARTS)
    assert len(flat) == 0
    assert flat.schema == full.schema


def test_carried_are_the_columns_of_a_manifest(planned: pa.Table) -> None:
    assert carried(planned) == ["emotion", "label"]


def test_recordings_sum_up_their_segments(out: Output, rows: list[dict]) -> None:
    recordings, _ = summaries(out)
    assert recordings["recording_id"].to_pylist() == [0, 1, 2, 3]  # 4 could not be opened
    for row, source in zip(recordings.to_pylist(), planned_rows(), strict=False):
        own = [s for recording_id, s in every_segment(rows) if recording_id == row["recording_id"]]
        items = [i for r in rows for i in r["items"] if i["recording_id"] == row["recording_id"]]
        duration = sum(item["audio_s"] for item in items)
        assert row["duration_s"] == pytest.approx(duration)
        assert row["n_segments"] == len(own)
        time = dict.fromkeys(LABELS, 0.0)
        arc = [dict.fromkeys(LABELS, 0.0) for _ in range(ARC_PARTS)]
        for segment in own:
            seconds = segment["end_s"] - segment["start_s"]
            time[segment["label"]] += seconds
            middle = (segment["start_s"] + segment["end_s"]) / 2 - (source["start_s"] or 0.0)
            arc[min(ARC_PARTS - 1, int(ARC_PARTS * middle / duration))][segment["label"]] += seconds
        speech = sum(time.values())
        assert row["speech_s"] == pytest.approx(speech)
        for label, name in zip(LABELS, COLUMNS, strict=True):
            assert row[f"share_{name}"] == pytest.approx(time[label] / speech if own else 0.0)
        assert row["dominant_label"] == (max(time, key=time.__getitem__) if own else None)
        assert row["arc"] == [max(part, key=part.__getitem__) if any(part.values()) else None for part in arc]
        confidences = [segment["confidence"] for segment in own]
        assert row["mean_confidence"] == pytest.approx(sum(confidences) / max(1, len(own)), rel=1e-6)
        assert (row["emotion"], row["label"]) == (source["emotion"], source["label"])
    assert recordings["n_segments"].to_pylist()[2:] == [0, 0]


def test_the_share_of_labels_weighs_recordings_by_speech(out: Output, rows: list[dict]) -> None:
    shares = tables._label_shares(summaries(out)[0], LABELS)
    spoken = dict.fromkeys(LABELS, 0.0)
    for _, segment in every_segment(rows):
        spoken[segment["label"]] += segment["end_s"] - segment["start_s"]
    total = sum(spoken.values())
    assert shares == {name: pytest.approx(seconds / total) for name, seconds in spoken.items()}


def test_every_reject_has_its_stage_and_reason(out: Output) -> None:
    out.delete(f"{ITEMS}/0.parquet")  # as if its worker had died each time
    out.delete(f"{SEGMENTS}/0.parquet")
    _, rejects = summaries(out)
    lost = out.read_table(BUNDLES)["items"][0].as_py()
    found = [
        (r["recording_id"], r["item_id"], r["stage"], r["reason"], r["message"]) for r in rejects.to_pylist()
    ]
    in_lost = {item["recording_id"] for item in lost}
    failed_item = next(
        item["item_id"]
        for bundle in out.read_table(BUNDLES)["items"].to_pylist()
        for item in bundle
        if item["recording_id"] == 3
    )
    assert 3 not in in_lost
    assert (4, None, "probe", "corrupt", "it broke") in found
    assert (3, failed_item, "decode", "corrupt", "no frame") in found
    assert (2, None, "segment", "no_speech", "no speech was found in it") in found
    for item in lost:
        assert [f[2:4] for f in found if f[1] == item["item_id"]] == [("run", "lost")]
    assert len(found) == 3 + len(lost)


def test_what_was_lost_is_not_called_silent(out: Output) -> None:
    """A recording none of whose items were written has no segments, but nobody listened to it."""
    bundles = out.read_table(BUNDLES).to_pylist()
    for n, bundle in enumerate(bundles):
        if any(item["recording_id"] == 1 for item in bundle["items"]):
            out.delete(f"{ITEMS}/{n}.parquet")
            out.delete(f"{SEGMENTS}/{n}.parquet")
    reasons = [row["reason"] for row in summaries(out)[1].to_pylist() if row["recording_id"] == 1]
    assert set(reasons) == {"lost"}


def test_items_done_count_the_inputs_of_each_bundle_once(out: Output, rows: list[dict]) -> None:
    done = tables._items_done(out)
    assert len(done) == sum(len(row["items"]) for row in rows)
    assert pc.sum(done["encoder_inputs"]).as_py() == sum(row["encoder_inputs"] for row in rows)


def test_no_credentials_reach_a_table(out: Output) -> None:
    for table in (*summaries(out), out.read_table(SEGMENTS)):
        text = json.dumps(table.to_pylist())
        assert SECRET not in text
        assert "host/0.wav" in text or "host/4.wav" in text


def test_a_run_that_wrote_nothing_has_empty_tables(tmp_path: Path, planned: pa.Table) -> None:
    out = Output.open(str(tmp_path))
    out.write_table(RECORDINGS_PLANNED, planned)
    out.write_table(BUNDLES, pa.Table.from_pylist(list(bundle_items(planned, ITEM_S)), schema=BUNDLE))
    empty = flatten(SCORED.empty_table(), tables._planned(out), LABELS, PARTS)
    out.write_table(f"{SEGMENTS}/segments.parquet", empty)
    recordings, rejects = summaries(out)
    assert recordings["n_segments"].to_pylist() == [0, 0, 0, 0]
    assert set(recordings["dominant_label"].to_pylist()) == {None}
    assert Counter(rejects["reason"].to_pylist())["lost"] == len(
        [item for bundle in bundle_items(planned, ITEM_S) for item in bundle["items"]]
    )
    assert effective_repetition(out, (1, 2), 48000, 480_000, "repeat_pad") == {"1": {}, "2": {}}


@pytest.mark.parametrize("window", [None, 80_000, 480_000])
@pytest.mark.parametrize("fill", ["repeat_pad", "circular", "none"])
def test_effective_repetition_counts_every_segment(out: Output, rows: list[dict], window, fill) -> None:
    counts = effective_repetition(out, (1, 2, 4), 48_000, window, fill)
    for a in (1, 2, 4):
        expected: Counter[str] = Counter()
        for _, segment in every_segment(rows):
            length = segment["samples"] * 6  # 8 kHz → 48 kHz
            expected[effect(min(length, window or length), a, window, fill)] += 1
        assert {name: count for name, count in counts[str(a)].items() if count} == expected
