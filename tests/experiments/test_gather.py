"""Evidence equals the columns of the encoded clips, on the clips' label set."""

import numpy as np
import pyarrow as pa

from tests.experiments.synthetic import LABELS, clips
from zsfuse_ray.experiments.columns import LOG_MEL, LOGITS, embedding_column
from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.method.zeroshot import softmax

RNG = np.random.default_rng(0)
MODELS = {"alm": {"scale": 7.0}, "specialist": {"labels": ["sad", "Anger", "other"]}}


def encoded() -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Clips, the third without a speaker, with columns of each kind; and the columns as arrays."""
    table = clips(n_speakers=2, n_each=4)
    speakers = [None if n == 2 else name for n, name in enumerate(table["speaker"].to_pylist())]
    table = table.set_column(table.column_names.index("speaker"), "speaker", pa.array(speakers, pa.string()))
    sizes = {embedding_column(1): 5, embedding_column(3): 5, LOGITS: 3, LOG_MEL: 6}
    arrays = {name: RNG.normal(size=(len(table), size)).astype(np.float32) for name, size in sizes.items()}
    for name, values in arrays.items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = table.append_column(name, column)
    return table, arrays


def test_evidence_contains_every_column():
    table, arrays = encoded()
    banks = {Text(1): np.ones((2, 4, 5), np.float32)}
    e = gather(table, None, LABELS, (1, 3), {"alm": banks}, MODELS)
    assert [LABELS[t] for t in e.targets] == table["emotion"].to_pylist()
    assert e.speakers.tolist() == ["numbers/s00"] * 2 + [""] + ["numbers/s00"] + ["numbers/s01"] * 4
    assert e.folds.tolist() == [0] * 8
    alm = e.alms["alm"]
    assert list(alm.audio) == [1, 3]
    for a, audio in alm.audio.items():
        np.testing.assert_array_equal(audio, arrays[embedding_column(a)])
    assert alm.text is banks
    assert alm.scale == 7.0
    assert e.features is not None
    np.testing.assert_array_equal(e.features, arrays[LOG_MEL])


def test_specialist_is_mapped_to_the_label_set():
    table, arrays = encoded()
    e = gather(table, None, LABELS, (), {}, {"specialist": MODELS["specialist"]})
    assert e.alm is None
    assert e.specialist is not None
    assert e.specialist.inside.tolist() == [True, False, False, True]
    q = softmax(arrays[LOGITS])
    np.testing.assert_allclose(e.specialist.posterior[:, 0], q[:, 1] / (q[:, 0] + q[:, 1]))


def test_folds_are_those_given():
    table, _ = encoded()
    folds = np.arange(8) // 2
    assert gather(table, None, LABELS, (), {}, {}, folds).folds is folds
    assert gather(table, None, LABELS, (), {}, {}, folds).n_folds == 4
