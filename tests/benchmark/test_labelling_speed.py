"""The random output that labelling is timed on reads like an output of zsfuse embed."""

import numpy as np

from zsfuse_ray.archive import bundles
from zsfuse_ray.archive.table import read_table
from zsfuse_ray.benchmark.labelling import OF_RECORDING, REPEATS, write_encoded
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.options import build


def test_random_table_reads_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "PART_S", 900.0)
    untrained = {"alm": "dual:untrained", "specialist": "classifier:untrained"}
    write_encoded(build(BenchmarkConfig, untrained), tmp_path, 7 * OF_RECORDING)
    table = read_table(str(tmp_path))
    assert len(table.table.plan.parts()) == 3
    assert len(table.segments) == 7 * OF_RECORDING
    assert len(set(table.segments["segment_id"].to_pylist())) == 7 * OF_RECORDING
    audio = table.audio(REPEATS)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=-1), 1, atol=1e-5)
    same = (audio[:, 0] == audio[:, 1]).all(axis=1)
    assert same.tolist() == [False, True] * (7 * OF_RECORDING // 2)
    assert table.logits().shape == (7 * OF_RECORDING, 4)
