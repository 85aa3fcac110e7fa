"""The embedding table against what was put into it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from embedding_runs import DIM, KEPT, MODELS, N_LOGITS, REPEATS, encoded_rows, packed, write_table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_run import every_segment
from torch.nn.functional import normalize, pad

from zsfuse_ray.archive.embed_run import flatten
from zsfuse_ray.archive.embeddings import open_embeddings, read_embeddings
from zsfuse_ray.archive.layout import Layout
from zsfuse_ray.archive.pack_stage import merge
from zsfuse_ray.archive.rows import ENCODED
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import distinct_inputs
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.runs.folder import EMBEDDINGS, RECORDINGS, REJECTS, RUN, Output

few = arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5), st.just(2)), elements=st.sampled_from([0, 1])
)


@given(few)
def test_each_distinct_embedding_is_kept_once_and_found_again(every):
    for values in every:
        kept, inputs = merge(([], []), values, [None] * len(values))
        own = list(dict.fromkeys(value.tobytes() for value in values))
        assert inputs.tolist() == [own.index(value.tobytes()) for value in values]
        assert [value.tobytes() for value in kept] == own


class Ear:
    """A model of 8 Hz and 10 s windows whose embedding says everything of its input."""

    sample_rate, window, fill, dim, same_length = 8, 80, "repeat_pad", DIM, False

    def embed_audio(self, clips):
        inputs = torch.stack([pad(clip, (0, self.window - len(clip))) for clip in clips])
        weights = torch.randn(self.window, self.dim, generator=torch.Generator().manual_seed(0))
        return normalize((inputs[:, :, None] * weights).sum(dim=1), dim=-1)


def test_the_embedding_of_every_a_is_what_the_model_gives_for_it_alone(rows, planned, tmp_path):
    repeats, rng, computed = (1, 2, 3, 5), np.random.default_rng(0), 0
    clips = {}
    for row in rows:
        own = [
            torch.from_numpy(rng.normal(size=rng.integers(5, 200)).astype(np.float32))
            for _ in row["segments"]
        ]
        embeddings, row["encoder_inputs"] = embed_clips(Ear(), own, repeats, batch_s=100)
        row |= {"embeddings": embeddings.numpy().tobytes(), "logits": None}
        for segment, clip in zip(row["segments"], own, strict=True):
            clips[segment["item_id"], segment["start_s"]] = clip
        computed += row["encoder_inputs"]
    models = {"alm": MODELS["alm"] | {"audio_repeats": list(repeats)}}
    write_table(tmp_path, rows, planned, models)
    table = read_embeddings(str(tmp_path))
    heard = [
        clips[place]
        for place in zip(
            table.segments["item_id"].to_pylist(), table.segments["start_s"].to_pylist(), strict=True
        )
    ]
    for a in repeats:
        alone, _ = embed_clips(Ear(), heard, (a,), batch_s=100)
        np.testing.assert_array_equal(table.audio((a,)), alone.numpy())
    short = [len(clip) for clip in heard if len(clip) <= 80]
    assert 0 < len(short) < len(heard)
    kept = [len(of) for of, clip in zip(embeddings_of(tmp_path), heard, strict=True) if len(clip) <= 80]
    assert sum(kept) == len(distinct_inputs(short, repeats, 80, "repeat_pad").inputs)
    assert not table.heard.logits


def embeddings_of(folder: Path) -> list:
    return Output.open(str(folder)).read_table(EMBEDDINGS)["alm_embeddings"].to_pylist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_table_is_read_back_as_it_was_heard(rows, planned, tmp_path, dtype):
    encoded = encoded_rows(rows, np.random.default_rng(1))
    write_table(tmp_path, encoded, planned, dtype=dtype, files=3)
    table = read_embeddings(str(tmp_path))
    expected = every_segment(encoded)
    assert len(table.segments) == len(expected) > 10
    by_place = {(s["item_id"], s["start_s"]): s for _, s in expected}
    own = [by_place[row["item_id"], row["start_s"]] for row in table.segments.to_pylist()]
    every = np.array([s["every"] for s in own])
    audio = table.audio(REPEATS)
    assert audio.dtype == np.float32
    np.testing.assert_allclose(audio, every, atol=0 if dtype == "float32" else 1e-3)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(table.audio((3, 1)), audio[:, [2, 0]])
    np.testing.assert_array_equal(table.logits(), np.array([s["logits"] for s in own]))
    assert table.models == MODELS
    kept = Output.open(str(tmp_path)).read_table(EMBEDDINGS).schema.field("alm_embeddings").type
    assert kept.value_type == pa.list_(pa.from_numpy_dtype(dtype), DIM)


def test_columns_of_the_manifest_come_along(rows, planned, tmp_path):
    write_table(tmp_path, encoded_rows(rows, np.random.default_rng(1)), planned)
    segments = read_embeddings(str(tmp_path)).segments
    for row in segments.to_pylist():
        assert row["emotion"] == f"e{row['recording_id']}"
        assert row["label"] == f"theirs {row['recording_id']}"  # nothing here has the name
    assert not {"alm_embeddings", "alm_inputs", "specialist_logits"} & set(segments.column_names)
    assert segments["segment_id"].to_pylist() == sorted(set(segments["segment_id"].to_pylist()))


def test_values_that_are_not_finite_are_rejected(rows, planned, tmp_path):
    encoded = encoded_rows(rows, np.random.default_rng(1))
    broken = next(row for row in encoded if len(row["segments"]) > 1)
    logits = np.frombuffer(broken["logits"], np.float32).copy()
    logits[0] = np.nan
    broken["logits"] = logits.tobytes()
    write_table(tmp_path, encoded, planned)
    out = Output.open(str(tmp_path))
    assert len(read_embeddings(str(tmp_path)).segments) == len(every_segment(encoded)) - 1
    rejects = out.read_table(REJECTS).to_pylist()
    assert [row["item_id"] for row in rejects if row["reason"] == "not_finite"] == [
        broken["segments"][0]["item_id"]
    ]


def test_a_run_without_segments_has_all_columns(rows, planned, tmp_path):
    pack = packed(LAYOUT)
    full = flatten(pack(of(encoded_rows(rows, np.random.default_rng(1)))), planned, LAYOUT)
    silent = [row | {"segments": [], "embeddings": b"", "logits": b""} for row in rows]
    for empty in ([], silent):
        assert flatten(pack(of(empty)), planned, LAYOUT).schema == full.schema
    write_table(tmp_path, silent, planned)
    table = read_embeddings(str(tmp_path))
    assert len(table.segments) == 0
    assert table.audio((1, 2)).shape == (0, 2, DIM)
    assert table.logits().shape == (0, N_LOGITS)
    recordings = Output.open(str(tmp_path)).read_table(RECORDINGS)
    assert set(recordings["n_segments"].to_pylist()) == {0}


LAYOUT = Layout.of(MODELS, KEPT)


def of(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ENCODED)


@pytest.fixture
def table(rows, planned, tmp_path) -> Path:
    write_table(tmp_path, encoded_rows(rows, np.random.default_rng(1)), planned)
    return tmp_path


def test_an_a_that_is_not_there_is_said(table):
    with pytest.raises(InputError, match=r"without audio repeats 5,7 \(it has 1,2,3\)"):
        read_embeddings(str(table)).audio((1, 5, 7))


def test_what_is_no_table_is_said(table, tmp_path):
    with pytest.raises(InputError, match="no embedding table there"):
        open_embeddings(str(tmp_path / "nowhere"))
    out = Output.open(str(table))
    run = out.read_json(RUN)
    assert run is not None
    out.write_json(RUN, run | {"status": "started"})
    with pytest.raises(InputError, match="incomplete"):
        open_embeddings(str(table))
    out.write_json(RUN, {name: value for name, value in run.items() if name != EMBEDDINGS})
    with pytest.raises(InputError, match="no embedding table there"):  # a run of score
        open_embeddings(str(table))
    out.write_json(RUN, run | {"models": {"alm": {}}})
    with pytest.raises(InputError, match=r"its run\.json"):
        open_embeddings(str(table))
    (table / RUN).write_text("[1]")
    with pytest.raises(InputError, match="no embedding table there"):
        open_embeddings(str(table))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("alm_inputs", [0, 1, 9], "names embeddings that are not there"),
        ("alm_inputs", [0, -1, 0], "names embeddings that are not there"),
        ("alm_embeddings", None, "alm_"),
        ("specialist_logits", [np.nan] * N_LOGITS, "finite"),
        ("specialist_logits", None, r"not what its run\.json says"),  # pyarrow itself refuses, or we do
    ],
)
def test_a_table_that_is_not_what_it_says_is_refused(table, column, value, said):
    out = Output.open(str(table))
    (file,) = out.parquet_files(EMBEDDINGS)
    content = out.read_table(EMBEDDINGS)
    values = content[column].to_pylist()
    values[0] = value
    place = content.column_names.index(column)
    content = content.set_column(place, column, pa.array(values, content[column].type))
    out.write_table(f"{EMBEDDINGS}/{Path(file).name}", content)
    with pytest.raises(InputError, match=said):
        read_embeddings(str(table))
    out.write_table(f"{EMBEDDINGS}/{Path(file).name}", content.drop_columns([column]))
    with pytest.raises(InputError, match=r"not what its run\.json says"):
        read_embeddings(str(table))
