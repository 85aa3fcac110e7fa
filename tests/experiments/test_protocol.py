import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.experiments.synthetic import clips
from zsfuse_ray.corpora.load import load
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


def test_emobox_folds_of_ravdess_follow_from_its_actors(shared):
    table = load((f"ravdess:{shared}/corpora/ravdess",))
    found = protocol(table, "ravdess", 5, None, "emobox")
    with (shared / "corpora" / "emobox_folds.csv").open() as file:
        published = {r["stem"]: int(r["test_fold"]) for r in csv.DictReader(file) if r["corpus"] == "ravdess"}
    stems = [Path(uri).stem for uri in table["uri"].to_pylist()]
    for number, r in enumerate(found.rounds, start=1):
        assert {published[stems[row]] for row in r.test} == {number}
    assert found.names == tuple(f"fold-{n}" for n in range(1, 7))
    assert found.facts["speaker_overlap"] == "none"


def test_emobox_folds_of_other_corpora_are_their_own():
    own = protocol(clips(split=False, fold=True), "numbers", 5, None, "emobox")
    assert (own.names, own.apart) == (("fold-1", "fold-2", "fold-3"), False)
    assert own.facts["splits"] == "3 folds of EmoBox"
    assert protocol(clips(), "numbers", 5, None, "emobox").names == ("test",)
    with pytest.raises(InputError, match="give EmoBox's lists"):
        protocol(clips(split=False), "numbers", 5, None, "emobox")
    with pytest.raises(InputError, match="s00 is in no fold of EmoBox"):
        protocol(clips(split=False), "ravdess", 5, None, "emobox")


def test_one_speaker_is_left_out_at_a_time():
    table = clips(n_speakers=7)
    found = protocol(table, "numbers", 5, None, "loso")
    speaker = np.array(table["speaker"].to_pylist())
    assert [set(speaker[r.test]) for r in found.rounds] == [{f"s{n:02}"} for n in range(7)]
    assert all(len(r.train) + len(r.test) == len(table) for r in found.rounds)
    with pytest.raises(InputError, match="70 clips have no speaker to leave out"):
        protocol(edited(table, speaker=[None] * 70), "numbers", 5, None, "loso")


def test_a_protocol_of_splits_without_dev_clips_chooses_on_train_clips():
    table = clips()
    split = ["train" if name == "dev" else name for name in table["split"].to_pylist()]
    (one,) = protocol(edited(table, split=split), "numbers", 5, None, "emobox").rounds
    assert one.dev.tolist() == one.train.tolist()
    with pytest.raises(InputError, match="no clip is in split dev"):
        protocol(edited(table, split=split), "numbers", 5, None)


def test_test_sets_of_a_corpus_are_apart():
    table = clips()
    named = [f"Test{1 + i % 2}" if s == "test" else None for i, s in enumerate(table["split"].to_pylist())]
    table = table.append_column("split_set", pa.array(named))
    found = protocol(table, "numbers", 5, None, "split")
    assert (found.names, found.apart) == (("Test1", "Test2"), True)
    for name, r in zip(found.names, found.rounds, strict=True):
        assert {named[row] for row in r.test} == {name}
    assert sum(len(r.test) for r in found.rounds) == 30
    assert protocol(table, "numbers", 5, None).names == ("test",)  # without --protocol they are one
    with pytest.raises(InputError, match="no splits"):
        protocol(clips(split=False), "numbers", 5, None, "split")
