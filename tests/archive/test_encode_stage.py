from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from zsfuse_ray.archive.encode_stage import Encode, EncodeOptions
from zsfuse_ray.archive.rows import DECODED, ENCODED
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec

ALM, SPECIALIST = parse_spec("clap:untrained", "alm"), parse_spec("classifier:untrained", "specialist")
OPTIONS = EncodeOptions((1, 2), "windows", "head", 20.0, "float32")
LENGTHS_S = (0.7, 2.3, 1.1)


def actor(alm=ALM, specialist=SPECIALIST, gpu=False, last=True, options=OPTIONS) -> Encode:
    return Encode(alm, specialist, options, gpu, torch.get_num_threads(), last)


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
    embeddings = np.frombuffer(first["embeddings"], np.float32).reshape(3, 2, both.alm.dim)
    logits = np.frombuffer(first["logits"], np.float32).reshape(3, both.specialist.dim)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-5)
    assert np.isfinite(logits).all()
    assert 3 <= first["encoder_inputs"] <= 6
    assert (silent["embeddings"], silent["logits"], silent["encoder_inputs"]) == (b"", b"", 0)


def test_two_pools_say_what_one_says() -> None:
    passing = actor(specialist=None, last=False)(BATCH)
    assert passing["pcm"].to_pylist() == BATCH["pcm"].to_pylist()
    assert actor(alm=None)(passing).equals(actor()(BATCH))


def test_without_a_gpu_of_its_own_an_actor_leaves_the_machines_gpu_alone(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    quiet = actor(options=replace(OPTIONS, precision="auto"))
    assert quiet.device.type == quiet.alm.device.type == quiet.specialist.device.type == "cpu"
    assert quiet.alm.dtype == quiet.specialist.dtype == torch.float32


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
