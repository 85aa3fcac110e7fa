"""The extrapolation of a pass with stand-ins, and the stand-ins; the passes themselves need a Ray each."""

import pyarrow as pa
import pytest

from zsfuse_ray.archive.schemas import BUNDLE, DECODED, encoded_schema
from zsfuse_ray.benchmark import scale as module
from zsfuse_ray.config.benchmark import BenchmarkConfig


def test_figures_are_measured_and_extrapolated_apart(monkeypatch) -> None:
    rates = {(1, 0.5): 1.9, (4, 0.5): 7.2, (4, 0.0): 300.0}
    monkeypatch.setattr(module, "_in_process", lambda c, gpus, n, item_s: {"rate": rates[gpus, item_s]})
    figures = module.scale(BenchmarkConfig(parts=("scale",), scale_gpus=(1, 4), scale_item_s=0.5))
    found = {figure.what: figure for figure in figures}
    assert found["4 logical GPUs"].median == 7.2
    assert found["4 logical GPUs"].note == "90% of the ideal 8"
    assert found["4 logical GPUs: overhead of an item"].median == pytest.approx(1000 * (4 / 7.2 - 0.5))
    assert found["EXTRAPOLATED: GPUs that such a driver keeps busy"].median == 150
    assert found["EXTRAPOLATED: 256 GPUs"].median == pytest.approx(100 * 150 / 256)


def test_stand_ins_take_and_give_the_rows_of_a_pass() -> None:
    item = {"item_id": 3, "recording_id": 2, "uri": "a.mp3", "slice_start_s": 0.0, "start_s": 0.0}
    item |= {"end_s": 300.0, "last": True, "exact": True, "slice_end_s": None}
    batch = pa.Table.from_pylist([{"bundle_id": 1, "part": 0, "items": [item]}], schema=BUNDLE)
    decoded = module.decode(batch, how=None)
    assert decoded.schema == DECODED
    encoded = module.sleeping(0.0)(("alm", "specialist"), options=())(decoded)
    assert encoded.schema == encoded_schema(("alm", "specialist"))
    assert encoded["items"][0].as_py()[0]["item_id"] == 3
    assert encoded["encoder_inputs"][0].as_py() > 0
