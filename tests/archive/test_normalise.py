"""Labels of vectors that are normalised per recording or speaker, against one computation over all rows."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, LABELLING, THEIRS, VECTOR_DIM, Small
from zsfuse_ray.archive import reading
from zsfuse_ray.archive.label import label, stale_parts
from zsfuse_ray.archive.layout import SEGMENTS, plan_file
from zsfuse_ray.archive.normalise import groups_of
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.method.labelling import label_columns
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Readout

_rng = np.random.default_rng(5)
READOUT = Readout(
    (
        _rng.normal(size=(len(THEIRS), VECTOR_DIM)).astype(np.float32),
        _rng.normal(size=len(THEIRS)).astype(np.float32),
    ),
    None,
)


@pytest.fixture
def task(small: Small) -> LabelTask:
    """A task whose recordings 0 and 1, the only ones with segments, are of one speaker."""
    recordings = small.out.read_table(plan_file(0, "recordings"))
    speakers = pa.array(["anna", "anna", None, "", "bert"])
    small.out.write_table(plan_file(0, "recordings"), recordings.append_column("speaker", speakers))
    plan = replace(small.plan, columns=small.plan.columns | {"speaker": "string"})
    keys, wanted = {"alm": "alm", "specialist": "specialist"}, {"alm": (1, 2), "specialist": ()}
    labelling = replace(LABELLING, readout=READOUT)
    return LabelTask(plan, small.encode(BOTH), small.out, labelling, keys, wanted, {}, "one")


@pytest.mark.parametrize("normalise", ["recording", "speaker"])
@pytest.mark.parametrize("at_once", [1, 64])
def test_segments_are_normalised_by_their_group(
    task: LabelTask, normalise, at_once: int, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "BUNDLES_AT_ONCE", at_once)
    task = replace(task, normalise=normalise)
    label(task, stale_parts(task.out, task.plan.parts(), task.digest))
    (rows,) = (
        read_part(task.encoded, task.plan.parts()[0], task.wanted, vectors=True) if at_once > 1 else (None,)
    )
    if rows is None:
        monkeypatch.setattr(reading, "BUNDLES_AT_ONCE", 64)
        (rows,) = read_part(task.encoded, task.plan.parts()[0], task.wanted, vectors=True)
    recordings = dict(
        zip(rows.items["item_id"].to_pylist(), rows.items["recording_id"].to_pylist(), strict=True)
    )
    own = [recordings[item] for item in rows.segments["item_id"].to_pylist()]
    assert set(own) == {0, 1}
    groups = [str(one) for one in own] if normalise == "recording" else ["anna"] * len(own)
    vectors = normalised(rows.vectors["specialist"], groups)
    expected = label_columns(task.labelling, rows.embeddings["alm"], None, vectors)
    found = task.out.read_table(SEGMENTS)
    order = np.lexsort((rows.segments["start_s"].to_numpy(), own))
    for name, values in expected.items():
        if values.dtype == object:
            assert found[name].to_pylist() == list(values[order])
        else:
            np.testing.assert_allclose(found[name].to_numpy(), values[order], atol=1e-5)


def test_recordings_without_a_speaker_are_groups_of_their_own() -> None:
    recordings = pa.table({"recording_id": [1, 2, 3, 4], "speaker": ["a", None, "", "a"]})
    assert groups_of(recordings, "speaker") == ["speaker a", "recording 2", "recording 3", "speaker a"]
    assert groups_of(recordings, "recording") == [f"recording {n}" for n in (1, 2, 3, 4)]
