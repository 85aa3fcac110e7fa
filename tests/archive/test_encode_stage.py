from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from zsfuse_ray.archive.encode_stage import Encode, EncodeOptions, Hear
from zsfuse_ray.archive.rows import DECODED, ENCODED

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec

ALM, SPECIALIST = parse_spec("clap:untrained", "alm"), parse_spec("classifier:untrained", "specialist")
OPTIONS = EncodeOptions("windows", "head", 20.0, "float32")
LENGTHS_S = (0.7, 2.3, 1.1)


BOTH = {"alm": Hear(ALM, (1, 2)), "specialist": Hear(SPECIALIST)}


def actor(*keys, models=BOTH, gpu=False, last=True, options=OPTIONS) -> Encode:
    chosen = {key: models[key] for key in keys or models}
    return Encode(chosen, tuple(models), options, gpu, torch.get_num_threads(), last)


def bundle(bundle_id: int, rates: tuple[int, ...], seed: int) -> dict:
    """A DECODED row with a segment of noise for each rate."""
    rng = np.random.default_rng(seed)
    clips = [rng.normal(0, 3000, int(s * r)).astype(np.int16) for s, r in zip(LENGTHS_S, rates, strict=False)]
    spans = [
        {"item_id": bundle_id, "start_s": float(n), "end_s": n + len(clip) / rate, "speech_prob": 0.9}
        | {"samples": len(clip), "sample_rate": rate}
        for n, (clip, rate) in enumerate(zip(clips, rates, strict=True))
    ]
    pcm = np.concatenate([np.zeros(0, np.int16), *clips]).tobytes()
    return {"bundle_id": bundle_id, "items": [], "segments": spans, "pcm": pcm}


BATCH = pa.Table.from_pylist([bundle(0, (16000, 44100, 8000), 0), bundle(1, (), 1)], schema=DECODED)


def test_a_row_becomes_the_same_row_with_what_the_models_say() -> None:
    both = actor()
    rows = both(BATCH)
    assert rows.schema == ENCODED
    first, silent = rows.to_pylist()
    assert [first["bundle_id"], silent["bundle_id"]] == [0, 1]
    assert first["segments"] == BATCH["segments"][0].as_py()
    embeddings = np.frombuffer(first["embeddings"], np.float32).reshape(3, 2, both.models["alm"].dim)
    logits = np.frombuffer(first["logits"], np.float32).reshape(3, 4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-5)
    assert np.isfinite(logits).all()
    assert 3 <= first["encoder_inputs"] <= 6
    assert (silent["embeddings"], silent["logits"], silent["encoder_inputs"]) == (b"", b"", 0)


def test_two_pools_say_what_one_says() -> None:
    passing = actor("alm", last=False)(BATCH)
    assert passing["pcm"].to_pylist() == BATCH["pcm"].to_pylist()
    assert actor("specialist")(passing).equals(actor()(BATCH))


def test_several_models_of_a_kind_have_columns_of_their_own() -> None:
    other = parse_spec("dual:untrained", "alm")
    models = {**BOTH, "alm2": Hear(other, (1,)), "specialist2": Hear(SPECIALIST)}
    rows = actor(models=models)(BATCH)
    assert rows.schema.names[-2:] == ["embeddings2", "logits2"]
    first, expected = rows.to_pylist()[0], actor()(BATCH).to_pylist()[0]
    assert first["embeddings"] == expected["embeddings"]
    assert first["logits"] == first["logits2"] == expected["logits"]
    alone = actor(models={"alm": Hear(other, (1,))})(BATCH).to_pylist()[0]
    assert first["embeddings2"] == alone["embeddings"]
    assert first["encoder_inputs"] == expected["encoder_inputs"] + alone["encoder_inputs"]


def test_what_is_known_is_not_computed_again() -> None:
    """The clip of 0.7 s is heard 14, 7 and 4 times three; that of 2.3 s once with 4 or 3 copies."""
    repeats = (1, 2, 3, 4)
    every = actor(models={"alm": Hear(ALM, repeats)})(BATCH).to_pylist()[0]
    more = actor(models={"alm": Hear(ALM, (4, 3), known=(1, 2))})(BATCH).to_pylist()[0]
    whole = np.frombuffer(every["embeddings"], np.float32).reshape(3, 4, -1)
    new = np.frombuffer(more["embeddings"], np.float32).reshape(3, 2, -1)
    computed = np.isfinite(new).all(axis=-1)
    for clip in range(3):
        for column, a in enumerate((4, 3)):
            same = [k for k in (0, 1) if np.array_equal(whole[clip, k], whole[clip, a - 1])]
            assert computed[clip, column] == (not same)
            if computed[clip, column]:
                np.testing.assert_allclose(new[clip, column], whole[clip, a - 1], atol=1e-6)
    assert 0 < computed.sum() < 6
    assert more["encoder_inputs"] == len({(c, v.tobytes()) for c in range(3) for v in new[c][computed[c]]})


def test_without_a_gpu_of_its_own_an_actor_leaves_the_machines_gpu_alone(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    quiet = actor(options=replace(OPTIONS, precision="auto"))
    assert quiet.device.type == "cpu"
    assert {model.device.type for model in quiet.models.values()} == {"cpu"}
    assert {model.dtype for model in quiet.models.values()} == {torch.float32}


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--gpus-per-encoder 0"):
        actor(gpu=True)


def test_convolutions_keep_float32(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    actor()
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_says_what_a_cpu_says() -> None:
    here, there = actor()(BATCH).to_pylist()[0], actor(gpu=True)(BATCH).to_pylist()[0]
    for name in ("embeddings", "logits"):
        cpu, gpu = (np.frombuffer(row[name], np.float32) for row in (here, there))
        np.testing.assert_allclose(gpu, cpu, atol=1e-5)
