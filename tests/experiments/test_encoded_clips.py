"""From clips to bundles and back; the pass over real audio is in tests/jobs/test_evaluate.py."""

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from zsfuse_ray.archive.packing import normalised, pack_embeddings, pack_values, to_half
from zsfuse_ray.archive.schemas import DECODED, encoded_schema
from zsfuse_ray.archive.stages.decode import decode_bundles
from zsfuse_ray.audio.statistics import SIZE, log_mel_statistics
from zsfuse_ray.experiments.clips import CLIPS_PER_BUNDLE, WHOLE, _bundles, _without_audio, exit_code
from zsfuse_ray.experiments.columns import LOG_MEL, LOGITS, VECTORS, embedding_column, encoded_clips, matrix

RATE = 8000
KEYS = ("alm", "specialist")


def clip_table(*rows: tuple[str, float | None, float | None]) -> pa.Table:
    uris, starts, ends = zip(*rows, strict=True)
    return pa.table(
        {
            "uri": uris,
            "start_s": pa.array(starts, pa.float64()),
            "end_s": pa.array(ends, pa.float64()),
            "corpus": ["c"] * len(rows),
            "emotion": [f"emotion {n}" for n in range(len(rows))],
        }
    )


@pytest.fixture
def file(tmp_path) -> str:
    """Half a second of silence, then ten seconds of noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    soundfile.write(tmp_path / "noise.wav", np.concatenate([np.zeros(RATE // 2), noise]), RATE)
    return str(tmp_path / "noise.wav")


def test_clips_are_decoded_whole_and_slices_at_their_offsets(file):
    table = clip_table((file, None, None), (file, 2.0, 3.5), (file, 9.0, None), (file + "x", None, None))
    (row,) = decode_bundles(_bundles(table), WHOLE, 3600.0).to_pylist()
    spans = {span["item_id"]: (span["start_s"], span["end_s"]) for span in row["segments"]}
    assert spans[0] == pytest.approx((0.4, 10.5))  # a margin of silence is kept
    assert spans[1] == pytest.approx((2.0, 3.5))
    assert spans[2] == pytest.approx((9.0, 10.5))
    assert [item["reason"] for item in row["items"]] == [None, None, None, "not_found"]


def test_a_slice_beyond_the_end_is_truncated(file):
    table = clip_table((file, 9.0, 20.0), (file, 19.0, 20.0))
    (row,) = decode_bundles(_bundles(table), WHOLE, 3600.0).to_pylist()
    assert [(span["item_id"], span["end_s"]) for span in row["segments"]] == [(0, 10.5)]
    assert [item["reason"] for item in row["items"]] == [None, "truncated"]


def test_many_clips_become_several_bundles():
    table = clip_table(*[(f"{n}.wav", None, None) for n in range(2 * CLIPS_PER_BUNDLE + 1)])
    bundles = _bundles(table)
    assert [len(items) for items in bundles["items"]] == [CLIPS_PER_BUNDLE, CLIPS_PER_BUNDLE, 1]
    assert [item["item_id"] for items in bundles["items"].to_pylist() for item in items] == list(
        range(len(table))
    )


def test_statistics_replace_the_audio(file):
    decoded = decode_bundles(_bundles(clip_table((file, 1.0, 3.0), (file, 4.0, 5.0))), WHOLE, 3600.0)
    rows = decoded.to_pylist()[0]
    encoded = pa.Table.from_pylist(
        [dict.fromkeys(encoded_schema(KEYS).names) | rows | {"encoder_inputs": 0}],
        schema=encoded_schema(KEYS).append(DECODED.field("pcm")),
    )
    (row,) = _without_audio(encoded, log_mel=True).to_pylist()
    assert "pcm" not in row
    found = np.frombuffer(row[LOG_MEL], np.float32).reshape(2, SIZE)
    samples, _ = soundfile.read(file, dtype="int16")
    np.testing.assert_array_equal(found[1], log_mel_statistics(samples[4 * RATE : 5 * RATE], RATE))
    assert _without_audio(encoded, log_mel=False)[LOG_MEL].to_pylist() == [b""]


def bundle(clips: list[int], values: np.ndarray, reasons: dict[int, str]) -> dict:
    """A row of the last stage: encoded clips, their embeddings (n, 2, 3), and the reasons of the others."""
    span = {"start_s": 0.0, "end_s": 1.0, "speech_prob": 1.0, "samples": 8, "sample_rate": 8}
    done = {"planned_s": 0.0, "audio_s": 1.0}
    items = [
        done
        | {"item_id": n, "recording_id": n, "stage": reasons.get(n) and "decode"}
        | {"reason": reasons.get(n), "message": reasons.get(n)}
        for n in {*clips, *reasons}
    ]
    embeddings, inputs = pack_embeddings(values.astype(np.float32))
    return {
        "bundle_id": 0,
        "part": 0,
        "items": items,
        "segments": [span | {"item_id": n} for n in clips],
        "alm_embeddings": embeddings,
        "alm_inputs": inputs,
        "specialist_logits": pack_values(values[:, 0].astype(np.float32)),
        "specialist_vectors": pack_values(values[:, 1].astype(np.float32)),
        "encoder_inputs": 0,
        LOG_MEL: b"",
    }


def test_encoded_columns_follow_the_order_of_the_clips():
    table = clip_table(*[(f"{n}.wav", None, None) for n in range(6)])
    first, second = np.arange(12.0).reshape(2, 2, 3), np.arange(12.0, 24).reshape(2, 2, 3)
    second[1, 0, 0] = np.nan
    rows = [bundle([4, 3], first, {5: "corrupt", 3: "truncated"}), bundle([0, 1], second, {})]
    rows[1]["items"].append(rows[1]["items"][0] | {"item_id": 2})
    encoded = pa.Table.from_pylist(
        rows, schema=encoded_schema(KEYS).append(pa.field(LOG_MEL, pa.large_binary()))
    )
    found, rejects = encoded_clips(table, encoded, (1, 3))
    assert found["uri"].to_pylist() == ["0.wav", "3.wav", "4.wav"]
    assert found["emotion"].to_pylist() == ["emotion 0", "emotion 3", "emotion 4"]
    for place, a in enumerate((1, 3)):
        kept = np.array([second[0, place], first[1, place], first[0, place]], np.float32)
        np.testing.assert_array_equal(matrix(found, embedding_column(a)), normalised(to_half(kept)))
    np.testing.assert_array_equal(matrix(found, LOGITS), [second[0, 0], first[1, 0], first[0, 0]])
    assert not {LOG_MEL, VECTORS} & {*found.column_names}
    with_vectors, _ = encoded_clips(table, encoded, (1, 3), vectors=True)
    np.testing.assert_array_equal(matrix(with_vectors, VECTORS), [second[0, 1], first[1, 1], first[0, 1]])
    why = {row["uri"]: row["reason"] for row in rejects.to_pylist()}
    assert why == {"1.wav": "not_finite", "2.wav": "no_audio", "3.wav": "truncated", "5.wav": "corrupt"}
    assert set(rejects["corpus"].to_pylist()) == {"c"}


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (5, 0), (6, 1)])
def test_exit_code_1_above_max_reject_rate(lost, code, caplog):
    counts = [{"encoded": 60 - lost, "rejected": 0, "more": 1}, {"encoded": 40, "rejected": lost}]
    assert exit_code(counts, 0.05) == code
    logged = "\n".join(caplog.messages)
    assert (f"{lost} of 100 clips" in logged) == ("--max-reject-rate" in logged) == bool(code)
