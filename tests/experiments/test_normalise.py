"""Vectors of clips are normalised by speaker and read by the heads, as score does."""

import numpy as np
import pyarrow as pa
import pytest

from tests.experiments.synthetic import LABELS, clips
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import build
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.clips import labelled_clips
from zsfuse_ray.experiments.columns import LOGITS, VECTORS, embedding_column
from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.experiments.normalise import by_speaker, normalised_keys, readouts
from zsfuse_ray.method.labelling import Labelling, posteriors
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Layer, Readout
from zsfuse_ray.models.catalog import parse_spec

RNG = np.random.default_rng(0)
SPECS = {
    "alm": parse_spec("dual:untrained", "alm"),
    "specialist": parse_spec("classifier:untrained", "specialist"),
    "specialist2": parse_spec("pooled:folder", "specialist"),
}


def layer(outputs: int, inputs: int) -> Layer:
    return RNG.normal(size=(outputs, inputs)).astype(np.float32), RNG.normal(size=outputs).astype(np.float32)


CLASSIFIER, PROJECTION = layer(4, 6), (layer(8, 6), layer(5, 8))
CARDS = {
    "alm": {"scale": 7.0, "revision": "r", "model": "pooled-alm:folder"},
    "specialist": {"labels": list(LABELS), "revision": "r", "model": "pooled:folder"},
}


def test_only_specialists_trained_for_it_are_normalised_by_default():
    assert normalised_keys("auto", SPECS) == ["specialist2"]
    assert normalised_keys("speaker", SPECS) == ["specialist", "specialist2"]
    assert normalised_keys("none", SPECS) == []


def test_an_alm_of_the_same_trunk_reads_the_same_vectors():
    found = readouts(["specialist"], CARDS, {"alm": PROJECTION, "specialist": CLASSIFIER})
    assert {key: trunk for key, (trunk, _) in found.items()} == dict.fromkeys(CARDS, "specialist")
    other = CARDS | {"alm": CARDS["alm"] | {"revision": "other"}}
    heads = {"alm": PROJECTION, "specialist": CLASSIFIER}
    assert list(readouts(["specialist"], other, heads)) == ["specialist"]
    assert readouts([], CARDS, heads) == {}


def test_a_specialist_without_a_head_is_refused():
    with pytest.raises(InputError, match=r"--specialist pooled:folder has no head .*; use --normalise none"):
        readouts(["specialist"], CARDS, {"specialist": None})


def test_speakers_are_needed(tmp_path):
    (tmp_path / "clips.csv").write_text("uri,emotion\na.wav,sad\nb.wav,happy\n")
    options = {"input": str(tmp_path / "clips.csv"), "output": str(tmp_path / "out"), "normalise": "speaker"}
    with pytest.raises(InputError, match="no clip has a speaker"):
        labelled_clips(build(EvaluateConfig, options))


def test_a_clip_without_a_speaker_is_its_own_group():
    vectors = RNG.normal(1, 2, (5, 3)).astype(np.float32)
    found = by_speaker(vectors, ["a", "", "a", "", "clip 1"])
    np.testing.assert_array_equal(found, normalised(vectors, ["a", "x", "a", "y", "z"]))


def test_evidence_equals_what_score_labels_with():
    """The posteriors of `method.labelling` on the same normalised vectors."""
    table = clips(n_speakers=3, n_each=8)
    arrays = {VECTORS: 6, LOGITS: 4, embedding_column(1): 5, embedding_column(2): 5}
    values = {name: RNG.normal(size=(len(table), size)).astype(np.float32) for name, size in arrays.items()}
    for name, array in values.items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        table = table.append_column(name, column)
    text = RNG.normal(size=(2, 4, 5)).astype(np.float32)
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    found = readouts(["specialist"], CARDS, {"alm": PROJECTION, "specialist": CLASSIFIER})
    e = gather(table, None, LABELS, (1, 2), {"alm": {Text(1): text}}, CARDS, readouts=found)
    labelling = Labelling(
        labels=LABELS,
        text=text,
        scale=7.0,
        specialist_labels=LABELS,
        ensemble="embedding",
        temperature=1.0,
        fusion="linear",
        weight=0.5,
        readout=Readout(CLASSIFIER, PROJECTION),
    )
    vectors = normalised(values[VECTORS], table["speaker"].to_pylist())
    _, specialist, _ = posteriors(labelling, None, None, vectors)
    np.testing.assert_allclose(e.specialists["specialist"].posterior, specialist, atol=1e-6)
    embeddings = Readout(CLASSIFIER, PROJECTION).embeddings(vectors)
    for audio in e.alms["alm"].audio.values():  # normalised vectors are those of one copy
        np.testing.assert_allclose(audio, embeddings, atol=1e-6)
    without = gather(table, None, LABELS, (1, 2), {"alm": {Text(1): text}}, CARDS)
    np.testing.assert_array_equal(without.specialists["specialist"].logits, values[LOGITS])
    np.testing.assert_array_equal(without.alms["alm"].audio[2], values[embedding_column(2)])
