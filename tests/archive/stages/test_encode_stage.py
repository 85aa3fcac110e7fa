from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from zsfuse_ray.archive.packing import pack_values, to_half, unpack_embeddings, unpack_values
from zsfuse_ray.archive.passes import BEFORE, Computed, Encoded, Pass, ToEncode
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.archive.schemas import DECODED, encoded_schema, segment_seed
from zsfuse_ray.archive.stages import encode as stage
from zsfuse_ray.archive.stages.attempts import BUNDLE_TRIES, MOST_TRIES
from zsfuse_ray.archive.stages.encode import Encode, EncodeOptions
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.tally import Attempts

ALM, SPECIALIST = parse_spec("clap:untrained", "alm"), parse_spec("classifier:untrained", "specialist")
OPTIONS = EncodeOptions("windows", "head", 20.0, "float32")
LENGTHS_S = (0.7, 2.3, 1.1)
BOTH = {"alm": ToEncode(ALM, (1, 2)), "specialist": ToEncode(SPECIALIST)}


def actor(*keys, models=BOTH, gpu=False, last=True, options=OPTIONS, **more) -> Encode:
    chosen = {key: models[key] for key in keys or models}
    return Encode(chosen, tuple(models), options, gpu, torch.get_num_threads(), last, **more)


def bundle(bundle_id: int, rates: tuple[int, ...], seed: int) -> dict:
    """A DECODED row with one segment of noise per rate."""
    rng = np.random.default_rng(seed)
    clips = [rng.normal(0, 3000, int(s * r)).astype(np.int16) for s, r in zip(LENGTHS_S, rates, strict=False)]
    spans = [
        {"item_id": bundle_id, "start_s": float(n), "end_s": n + len(clip) / rate, "speech_prob": 0.9}
        | {"samples": len(clip), "sample_rate": rate}
        for n, (clip, rate) in enumerate(zip(clips, rates, strict=True))
    ]
    pcm = np.concatenate([np.zeros(0, np.int16), *clips]).tobytes()
    return {"bundle_id": bundle_id, "part": 5, "items": [], "segments": spans, "pcm": pcm}


BATCH = pa.Table.from_pylist([bundle(0, (16000, 44100, 8000), 0), bundle(1, (), 1)], schema=DECODED)


def clips_at(rate: int) -> list[torch.Tensor]:
    """The segments of the first bundle, resampled to a rate."""
    row = BATCH.to_pylist()[0]
    samples = torch.frombuffer(bytearray(row["pcm"]), dtype=torch.int16)
    pieces = samples.split([segment["samples"] for segment in row["segments"]])
    return [resample(c, s["sample_rate"], rate) for c, s in zip(pieces, row["segments"], strict=True)]


def unpacked(row: dict, key: str, dim: int, repeats: int) -> tuple[NDArray, NDArray]:
    """Distinct embeddings and inputs of an ALM in one row."""
    columns = (
        pa.chunked_array([pa.array([row[f"{key}_{name}"]], pa.large_binary())])
        for name in ("embeddings", "inputs")
    )
    return unpack_embeddings(*columns, dim, repeats)


def test_rows_keep_their_columns_and_get_the_models_outputs() -> None:
    both = actor()
    rows = both(BATCH)
    assert rows.schema == encoded_schema(("alm", "specialist"))
    first, silent = rows.to_pylist()
    assert [(row["bundle_id"], row["part"]) for row in (first, silent)] == [(0, 5), (1, 5)]
    assert first["segments"] == BATCH["segments"][0].as_py()
    distinct, inputs = unpacked(first, "alm", both.models["alm"].dim, 2)
    assert len(distinct) == first["encoder_inputs"] == len(set(inputs.ravel().tolist()))
    assert 3 <= first["encoder_inputs"] <= 6
    np.testing.assert_allclose(np.linalg.norm(distinct.astype(float), axis=-1), 1, atol=1e-3)
    names = ("alm_embeddings", "alm_inputs", "specialist_logits", "specialist_vectors")
    assert {name: silent[name] for name in names} == dict.fromkeys(names, b"")
    assert silent["encoder_inputs"] == 0


def test_columns_contain_the_models_outputs_in_float16() -> None:
    both = actor()
    row = both(BATCH).to_pylist()[0]
    alm, specialist = both.models["alm"], both.models["specialist"]
    with torch.inference_mode():
        values, inputs = embed_clips(alm, clips_at(alm.sample_rate), (1, 2), batch_s=20.0)
        logits, vectors = classify_clips(specialist, clips_at(specialist.sample_rate), batch_s=20.0)
    distinct, places = unpacked(row, "alm", alm.dim, 2)
    np.testing.assert_array_equal(distinct[places], to_half(values.numpy()))
    assert row["encoder_inputs"] == inputs
    assert vectors is not None
    assert row["specialist_logits"] == pack_values(logits.numpy())
    assert row["specialist_vectors"] == pack_values(vectors.numpy())
    column = pa.chunked_array([pa.array([row["specialist_vectors"]], pa.large_binary())])
    assert unpack_values(column, specialist.vector_dim).shape == (3, specialist.vector_dim)
    assert np.isfinite(np.frombuffer(row["specialist_logits"], np.float16)).all()


def test_a_family_without_vectors_has_a_null_column(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = actor("specialist")(BATCH)
    real = stage.load

    class Bare:
        vector_dim = None

        def __init__(self, model) -> None:
            self._model = model

        def __getattr__(self, name: str):
            return getattr(self._model, name)

        def classify(self, clips):
            return self._model.classify(clips)[0], None

    monkeypatch.setattr(stage, "load", lambda *arguments: Bare(real(*arguments)))
    rows = actor("specialist")(BATCH)
    assert rows["specialist_vectors"].to_pylist() == [None, None]
    assert rows["specialist_logits"].equals(expected["specialist_logits"])


def test_two_pools_in_sequence_match_one() -> None:
    passing = actor("alm", last=False)(BATCH)
    assert passing["pcm"].to_pylist() == BATCH["pcm"].to_pylist()
    assert actor("specialist")(passing).equals(actor()(BATCH))


def test_the_last_pool_keeps_the_audio_on_request() -> None:
    rows = actor("specialist", keep_audio=True)(BATCH)
    assert rows["pcm"].to_pylist() == BATCH["pcm"].to_pylist()


def test_each_model_of_a_kind_has_its_own_columns() -> None:
    other = parse_spec("dual:untrained", "alm")
    models = {**BOTH, "alm2": ToEncode(other, (1,)), "specialist2": ToEncode(SPECIALIST)}
    rows = actor(models=models)(BATCH)
    assert rows.schema == encoded_schema(models)
    first, expected = rows.to_pylist()[0], actor()(BATCH).to_pylist()[0]
    for name in ("alm_embeddings", "alm_inputs", "specialist_logits", "specialist_vectors"):
        assert first[name] == expected[name]
    assert first["specialist2_logits"] == expected["specialist_logits"]
    alone = actor(models={"alm": ToEncode(other, (1,))})(BATCH).to_pylist()[0]
    assert first["alm2_embeddings"] == alone["alm_embeddings"]
    assert first["encoder_inputs"] == expected["encoder_inputs"] + alone["encoder_inputs"]


@pytest.mark.parametrize("crop", ["head", "seeded"])
def test_known_inputs_are_referenced_and_not_computed(crop) -> None:
    """The clip of 0.7 s fills the window 14, 7 and 4 times three; that of 2.3 s once with 4 or 3 copies."""
    options = replace(OPTIONS, crop=crop)
    repeats, added, known = (1, 2, 3, 4), (4, 3), (1, 2)
    every = actor(models={"alm": ToEncode(ALM, repeats)}, options=options)
    dim = every.models["alm"].dim
    distinct, places = unpacked(every(BATCH).to_pylist()[0], "alm", dim, 4)
    whole = distinct[places]
    more = actor(models={"alm": ToEncode(ALM, added, known)}, options=options)(BATCH).to_pylist()[0]
    new, inputs = unpacked(more, "alm", dim, 2)
    for clip in range(3):
        for column, a in enumerate(added):
            same = [k for k in (0, 1) if np.array_equal(whole[clip, k], whole[clip, a - 1])]
            if same:
                assert inputs[clip, column] == -1 - same[0]
            else:
                value = new[inputs[clip, column]].astype(float)
                np.testing.assert_allclose(value, whole[clip, a - 1].astype(float), atol=1e-3)
    assert 0 < (inputs >= 0).sum() < 6
    assert np.isfinite(new).all()
    assert more["encoder_inputs"] == len(new) == len(set(inputs[inputs >= 0].tolist()))


@pytest.mark.parametrize("crop", ["head", "seeded"])
def test_two_passes_match_each_repeat_encoded_alone(tmp_path: Path, crop) -> None:
    options, out = replace(OPTIONS, crop=crop), Output.open(str(tmp_path))
    tasks = [ToEncode(ALM, (1, 2)), ToEncode(ALM, (4, 3), known=(1, 2))]
    passes = [
        Pass(str(n), (0,), {"alm": Computed(task.audio_repeats, task.known)}, True)
        for n, task in enumerate(tasks)
    ]
    for one, task in zip(passes, tasks, strict=True):
        encode = actor(models={"alm": task}, options=options)
        out.write_table(f"{one.path}/part=5/0.parquet", encode(BATCH).drop_columns(["part"]))
    alm = encode.models["alm"]
    encoded = Encoded(out, "p", dict(BEFORE), {"alm": {"dim": alm.dim}}, tuple(passes))
    (rows,) = read_part(encoded, Part(5, 0, 0, 1, ()), {"alm": (1, 2, 3, 4)})
    spans = BATCH["segments"][0].as_py()
    seeds = [segment_seed(s["item_id"], s["start_s"]) for s in spans] if crop == "seeded" else None
    for column, a in enumerate((1, 2, 3, 4)):
        with torch.inference_mode():
            alone, _ = embed_clips(alm, clips_at(alm.sample_rate), (a,), seeds=seeds, batch_s=20.0)
        np.testing.assert_allclose(rows.embeddings["alm"][:, column], alone[:, 0].numpy(), atol=1e-3)


def test_an_actor_without_a_gpu_does_not_use_the_machines_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    on_cpu = actor(options=replace(OPTIONS, precision="auto"))
    assert on_cpu.device.type == "cpu"
    assert {model.device.type for model in on_cpu.models.values()} == {"cpu"}
    assert {model.dtype for model in on_cpu.models.values()} == {torch.float32}


def test_a_gpu_that_torch_cannot_use_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--gpus-per-encoder 0"):
        actor(gpu=True)


def test_convolutions_use_float32(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    actor()
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_and_cpu_outputs_match() -> None:
    here, there = actor()(BATCH).to_pylist()[0], actor(gpu=True)(BATCH).to_pylist()[0]
    for name in ("alm_embeddings", "specialist_logits", "specialist_vectors"):
        cpu, gpu = (np.frombuffer(row[name], np.float16).astype(float) for row in (here, there))
        np.testing.assert_allclose(gpu, cpu, atol=2e-3)


class Poisoned:
    """A model that fails for any batch with a clip of exactly this many samples, or for all."""

    def __init__(self, model, samples: int | None, error: Exception) -> None:
        self._model, self._samples, self._error = model, samples, error

    def classify(self, clips):
        if self._samples is None or any(len(clip) == self._samples for clip in clips):
            raise self._error
        return self._model.classify(clips)

    def __getattr__(self, name: str):
        return getattr(self._model, name)


def three_items() -> pa.Table:
    """One bundle of three items, with a segment each at the model's rate."""
    row = bundle(0, (16_000, 16_000, 16_000), 0)
    for n, segment in enumerate(row["segments"]):
        segment["item_id"] = 10 + n
    outcome = {"recording_id": 0, "planned_s": 3.0, "audio_s": 3.0}
    row["items"] = [outcome | {"item_id": 10 + n} for n in range(3)]
    return pa.Table.from_pylist([row], schema=DECODED)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (ZeroDivisionError("in a\nlayer"), "failed"),
    ],
)
def test_an_error_of_a_model_costs_one_item(error: Exception, reason: str) -> None:
    both = actor()
    whole = both(three_items()).to_pylist()[0]
    second = three_items()["segments"][0].as_py()[1]["samples"]
    both.models["specialist"] = Poisoned(both.models["specialist"], second, error)
    row = both(three_items()).to_pylist()[0]
    assert [item["reason"] for item in row["items"]] == [None, reason, None]
    assert row["items"][1]["stage"] == "encode"
    assert "\n" not in row["items"][1]["message"]
    assert row["segments"] == whole["segments"]
    for name in ("alm_embeddings", "specialist_logits", "specialist_vectors"):
        values, expected = (np.frombuffer(one[name], np.float16) for one in (row, whole))
        assert len(values) <= len(expected)
        if name != "alm_embeddings":
            values, expected = values.reshape(3, -1), expected.reshape(3, -1)
            assert np.isnan(values[1]).all()
            np.testing.assert_allclose(values[[0, 2]], expected[[0, 2]], atol=2e-3)
    distinct, places = unpacked(row, "alm", both.models["alm"].dim, 2)
    assert np.isnan(distinct[places[1]]).all()
    assert np.isfinite(distinct[places[[0, 2]]]).all()


def test_a_model_that_fails_for_all_audio_stops_the_run() -> None:
    both = actor()
    both.models["specialist"] = Poisoned(both.models["specialist"], None, ValueError("no such layer"))
    with pytest.raises(ValueError, match="no such layer"):
        both(three_items())


def test_a_bundle_that_kills_its_encoder_loses_one_item() -> None:
    """As Ray retries it: each death is an exception here that no stage catches."""

    class Death(BaseException):
        pass

    both, attempts, deaths = actor(), Attempts(), 0
    second = three_items()["segments"][0].as_py()[1]["samples"]
    both.models["specialist"] = Poisoned(both.models["specialist"], second, Death())

    @contextmanager
    def attempt(key):
        yield attempts.begin(key)
        attempts.end(key)

    both.attempt = attempt
    while True:
        try:
            row = both(three_items()).to_pylist()[0]
            break
        except Death:
            deaths += 1
    assert deaths == BUNDLE_TRIES + MOST_TRIES
    assert [item["reason"] for item in row["items"]] == [None, "crashed", None]
    assert not attempts.begun
    logits = np.frombuffer(row["specialist_logits"], np.float16).reshape(3, -1)
    assert np.isnan(logits).any(axis=1).tolist() == [False, True, False]
