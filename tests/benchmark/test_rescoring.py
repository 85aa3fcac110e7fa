"""The table of random values that rescoring is timed on is one of jobs/embed.py to whoever reads it."""

import numpy as np

from zsfuse_ray.archive.embeddings import read_embeddings
from zsfuse_ray.benchmark import rescoring
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.options import build


def test_the_table_reads_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(rescoring, "ROWS_A_FILE", 120)
    untrained = {"alm": "dual:untrained", "specialist": "classifier:untrained"}
    rescoring.write_table(build(BenchmarkConfig, untrained | {"rescore_segments": 300}), tmp_path)
    table = read_embeddings(str(tmp_path))
    assert len(table.stored.files()) == 3
    assert table.segments["segment_id"].to_pylist() == list(range(300))
    audio = table.audio(rescoring.REPEATS)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=-1), 1, atol=1e-5)
    assert len(np.unique(audio[0], axis=0)) == rescoring.DISTINCT
    assert table.logits().shape == (300, 4)
