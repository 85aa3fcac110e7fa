import numpy as np
import pyarrow as pa
import pytest

from tests.experiments.synthetic import clips
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.protocol import protocol


def edited(table: pa.Table, **columns: list) -> pa.Table:
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(
            place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
        )
    return table


def test_splits_become_one_round():
    table = clips()
    found = protocol(table, "numbers", 5, "mini")
    (one,) = found.rounds
    split = np.array(table["split"].to_pylist())
    for name in ("train", "dev", "test"):
        assert set(split[getattr(one, name)]) == {name}
    assert found.facts["parts"]["test"] == {"clips": 30, "speakers": 3}
    assert found.facts["choosing_speakers"] == 3
    assert found.facts["speaker_overlap"] == "none"
    assert "mini" in found.facts["splits"]


def test_without_train_split_the_baseline_trains_on_dev():
    table = clips()
    split = [None if s == "train" else s for s in table["split"].to_pylist()]
    (one,) = protocol(edited(table, split=split), "numbers", 5, None).rounds
    assert one.train.tolist() == one.dev.tolist()


def test_without_splits_folds_test_every_speaker_once_without_overlap():
    table = clips(split=False)
    found = protocol(table, "numbers", 4, None)
    speakers = np.array(table["speaker"].to_pylist())
    assert len(found.rounds) == 4
    assert sorted(np.concatenate([r.test for r in found.rounds])) == list(range(len(table)))
    for r in found.rounds:
        assert not set(speakers[r.test]) & set(speakers[r.train])
        assert r.train.tolist() == r.dev.tolist()
    assert found.facts["speaker_overlap"] == "none"
    assert found.facts["choosing_speakers"] == 9
    assert "mean over the 4 folds" in found.facts["averaging"]


def test_a_corpus_keeps_its_own_folds():
    table = clips(split=False, fold=True)
    found = protocol(table, "numbers", 5, None)
    fold = table["fold"].to_numpy()
    assert [set(fold[r.test]) for r in found.rounds] == [{1}, {2}, {3}]


def test_speakers_in_two_folds_are_reported():
    table = clips(split=False)
    found = protocol(edited(table, fold=[1 + i % 2 for i in range(len(table))]), "numbers", 5, None)
    assert found.facts["speaker_overlap"] == "12 speakers are in the test part and in train or dev"


def test_clips_in_no_split_are_counted_and_left_out():
    table = clips()
    split = [None if i < 5 else s for i, s in enumerate(table["split"].to_pylist())]
    found = protocol(edited(table, split=split), "numbers", 5, None)
    assert found.facts["left_out"] == 5
    assert not set(range(5)) & {*found.rounds[0].train, *found.rounds[0].dev, *found.rounds[0].test}


@pytest.mark.parametrize("missing", ["dev", "test"])
def test_missing_part_is_rejected(missing):
    table = clips()
    split = ["train" if s == missing else s for s in table["split"].to_pylist()]
    with pytest.raises(InputError, match=f"numbers: no clip is in split {missing}"):
        protocol(edited(table, split=split), "numbers", 5, None)


def test_single_label_is_rejected():
    table = clips()
    with pytest.raises(InputError, match='numbers: every clip is labelled "sad"'):
        protocol(edited(table, emotion=["sad"] * len(table)), "numbers", 5, None)


def test_too_few_speakers_are_rejected():
    with pytest.raises(InputError, match="numbers has 3 speakers, too few for 5 folds"):
        protocol(clips(3, split=False), "numbers", 5, None)


def test_merged_classes_are_reported():
    assert protocol(clips(), "numbers", 5, None).facts["merged"] == "none"
    assert "excited" in protocol(clips(), "iemocap", 5, None).facts["merged"]


def test_unknown_speakers_are_reported():
    table = clips()
    found = protocol(edited(table, speaker=[None] * len(table)), "numbers", 5, None)
    assert "unknown" in found.facts["speaker_overlap"]
