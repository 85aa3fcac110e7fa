"""The head of --head in evaluations and tunings: on its own specialist, and as score applies it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, MODELS, THEIRS, Small, small_archive
from tests.experiments.synthetic import clips
from zsfuse_ray.archive.heads import SavedHead, open_head
from zsfuse_ray.archive.passes import Computed
from zsfuse_ray.archive.table import read_table
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.clips import models_of
from zsfuse_ray.experiments.columns import LOGITS, VECTORS
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.experiments.heads import fitted_heads
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.training.head import train_head

RNG = np.random.default_rng(0)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    small = small_archive(tmp_path / "table")
    small.encode(BOTH, {"specialist2": Computed()})
    return small


@pytest.fixture
def saved(small: Small, tmp_path: Path) -> SavedHead:
    options = {"from_table": small.out.uri, "output": str(tmp_path / "head")}
    return open_head(train_head(build(TrainConfig, options), "").out.uri)


def test_it_is_that_of_its_own_specialist(small: Small, saved: SavedHead, tmp_path: Path) -> None:
    options = {"embeddings": small.out.uri, "output": str(tmp_path / "out"), "audio_repeats": (1, 2)}
    table = read_table(small.out.uri, vectors=True)
    config = build(EvaluateConfig, options | {"alm": "table", "specialist": "table", "head": saved.uri})
    names = models_of(config, table, every=True)
    assert list(names) == ["alm", "specialist", "specialist2"]
    assert {key: one.digest for key, one in fitted_heads(config, names, table).items()} == {
        "specialist": saved.digest
    }
    without = build(EvaluateConfig, options | {"specialist": "table"})
    assert fitted_heads(without, names, table) == {}
    with pytest.raises(InputError, match="not of classifier:there of revision s2"):
        fitted_heads(config, {"specialist2": "classifier:there"}, table)
    with pytest.raises(InputError, match="there is none"):
        fitted_heads(config, {"alm": "clap:untrained"}, table)


@pytest.mark.parametrize("is_normalised", [False, True])
def test_evidence_has_its_logits_on_its_labels(saved: SavedHead, is_normalised: bool) -> None:
    table = clips(n_speakers=2, n_each=4)
    values = {LOGITS: RNG.normal(size=(8, 4)), VECTORS: RNG.normal(size=(8, 5))}
    for name, array in values.items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(array.astype(np.float32).ravel()), array.shape[1])
        table = table.append_column(name, column)
    card = saved.describe(MODELS["specialist"])
    assert card["labels"] == [*THEIRS, "e0", "e1"]
    classifier = RNG.normal(size=(4, 5)).astype(np.float32), np.zeros(4, np.float32)
    readouts = {"specialist": ("specialist", Readout(classifier, None))} if is_normalised else {}
    own = tuple(sorted({*table["emotion"].to_pylist(), "angry", "sad", "e0"}))
    plain = gather(table, None, own, (), {}, {"specialist": MODELS["specialist"]}, None, readouts)
    found = gather(table, None, own, (), {}, {"specialist": card}, None, readouts, {"specialist": saved})
    assert found.specialist is not None
    assert plain.specialist is not None
    assert found.specialist.inside[own.index("e0")]
    assert not plain.specialist.inside[own.index("e0")]
    logits = found.specialist.logits
    assert logits.shape == (8, 6)
    vectors = values[VECTORS].astype(np.float32)
    if is_normalised:
        vectors = normalised(vectors, table["speaker"].to_pylist())
    np.testing.assert_allclose(logits, saved.head.logits(plain.specialist.logits, vectors))
    assert np.abs(saved.head.weight).max() > 0
