from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora.fake_corpora import clips, refusal, write
from zsfuse_ray.corpora.clips import check_splits
from zsfuse_ray.corpora.readers import read
from zsfuse_ray.corpora.splits import SHIPPED, folds, held_out_speakers, read_split


def corpus(*shown: dict[str, int], name: str = "c") -> pa.Table:
    """Return a corpus; shown[i] is the number of clips of the i-th speaker by emotion."""
    return clips(
        *(
            {"corpus": name, "speaker": f"s{i}", "emotion": emotion, "gender": ("male", "female")[i % 2]}
            for i, emotions in enumerate(shown)
            for emotion, number in emotions.items()
            for _ in range(number)
        )
    )


corpora = st.lists(
    st.dictionaries(st.sampled_from(("angry", "happy", "sad")), st.integers(1, 5), min_size=1),
    min_size=3,
    max_size=9,
).map(lambda shown: corpus(*shown))


@settings(deadline=None, max_examples=60)
@given(corpora, st.integers(2, 9), st.integers(0, 3))
def test_folds_do_not_split_speakers(table: pa.Table, n: int, seed: int) -> None:
    speakers = set(table["speaker"].to_pylist())
    if len(speakers) < n:
        assert f"{len(speakers)} speakers, too few for {n} folds" in refusal(folds, table, n)
        return
    folded = folds(table, n, seed)
    of = defaultdict(set)
    for speaker, fold in zip(folded["speaker"].to_pylist(), folded["fold"].to_pylist(), strict=True):
        of[speaker].add(fold)
    assert all(len(found) == 1 for found in of.values())
    assert set(folded["fold"].to_pylist()) == set(range(1, n + 1))
    assert folded.equals(folds(table, n, seed))
    assert folded.drop_columns("fold").equals(table.drop_columns("fold"))


def test_folds_are_balanced() -> None:
    table = corpus(*[{"angry": 5, "happy": 3, "sad": 2}] * 10, {"calm": 1}, {"calm": 1})
    for seed in range(5):
        rows = folds(table, 5, seed).to_pylist()
        assert sorted(Counter(row["fold"] for row in rows if row["emotion"] == "sad").values()) == [4] * 5
        males = Counter(row["fold"] for row in rows if row["gender"] == "male" and row["emotion"] == "sad")
        assert sorted(males.values()) == [2] * 5
        assert len({row["fold"] for row in rows if row["emotion"] == "calm"}) == 2
    assert len({str(folds(table, 5, seed)["fold"].to_pylist()) for seed in range(5)}) == 5


def test_no_fold_is_empty_without_shared_groups() -> None:
    """Placing speakers without a common emotion or gender together would not unbalance the parts."""
    assert folds(corpus({"angry": 1}, {"happy": 1}), 2)["fold"].to_pylist() in ([1, 2], [2, 1])


def test_existing_folds_are_kept() -> None:
    own = clips(*({"corpus": "own", "emotion": "sad", "fold": fold} for fold in (1, 2, 3, 3)))
    rest = corpus(*[{"angry": 2, "sad": 2}] * 5)
    folded = folds(pa.concat_tables([own, rest]), 5)
    assert folded["fold"].to_pylist()[:4] == [1, 2, 3, 3]
    assert sorted(Counter(folded["fold"].to_pylist()[4:]).items()) == [(fold, 4) for fold in range(1, 6)]
    some = clips({"corpus": "own", "fold": 1}, {"corpus": "own"})
    assert "1 of 2 clips of own have no fold" in refusal(folds, some, 2)
    assert "at least 2" in refusal(folds, rest, 1)
    assert "have no speaker" in refusal(folds, clips({"corpus": "x"}, {"corpus": "x"}), 2)


@settings(deadline=None, max_examples=80)
@given(corpora, st.integers(0, 3))
def test_every_label_keeps_clips_outside_the_held_out_speakers(table: pa.Table, seed: int) -> None:
    rows = table.to_pylist()
    held_out = held_out_speakers(table, seed=seed).get("c", ())
    left = [row for row in rows if row["speaker"] not in held_out]
    assert {row["emotion"] for row in left} == {row["emotion"] for row in rows}
    assert held_out == tuple(sorted(set(held_out)))
    assert held_out_speakers(table, seed=seed).get("c", ()) == held_out
    if not held_out:  # every speaker is the only one of some label
        for speaker in {row["speaker"] for row in rows}:
            others = {row["emotion"] for row in rows if row["speaker"] != speaker}
            assert others < {row["emotion"] for row in rows}


def test_holds_out_a_fifth_of_the_speakers_per_corpus() -> None:
    even = {"angry": 4, "happy": 4, "sad": 4}
    table = pa.concat_tables(
        [corpus(*[even] * 10), corpus(*[even] * 3, name="d"), corpus(even, name="alone")]
    )
    for seed in range(5):
        held_out = held_out_speakers(table, seed=seed)
        assert {name: len(speakers) for name, speakers in held_out.items()} == {"c": 2, "d": 1}
    assert len({str(held_out_speakers(table, seed=seed)) for seed in range(5)}) > 1


def test_held_out_speakers_cover_all_labels_if_possible() -> None:
    """The speaker with most clips, and the only speaker of a label, stay in training."""
    most, some, one_label = {"angry": 90, "sad": 90}, {"angry": 4, "sad": 4}, {"angry": 8}
    assert held_out_speakers(corpus(most, some, one_label)) == {"c": ("s1",)}
    assert held_out_speakers(corpus({"calm": 1, "sad": 4}, {"sad": 4, "angry": 1})) == {}
    assert held_out_speakers(corpus({"calm": 1, "sad": 4}, {"sad": 4})) == {"c": ("s1",)}


def test_no_speaker_is_held_out_if_a_clip_has_no_speaker() -> None:
    named = [{"corpus": "c", "speaker": f"s{i}", "emotion": "sad"} for i in range(5)]
    assert held_out_speakers(clips(*named)) != {}
    assert held_out_speakers(clips(*named, {"corpus": "c", "emotion": "sad"})) == {}


def test_split_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.csv", "corpus,speaker,split", "c,s0,training", "c,s1,dev", "c,s2,test", "d,s0,test"
    )
    table = corpus({"sad": 1}, {"sad": 1}, {"sad": 1})
    assert read_split(path, table)["split"].to_pylist() == ["train", "dev", "test"]
    assert "no split for speaker s3 of c" in refusal(read_split, path, corpus(*[{"sad": 1}] * 4))
    assert "no split for a clip without a speaker of c" in refusal(read_split, path, clips({"corpus": "c"}))
    twice = write(tmp_path / "t.csv", "corpus,speaker,split", "c,s0,train", "c,s0,train", "c,s0,test")
    assert "speaker s0 of c is in both train and test" in refusal(read_split, twice, table)
    wrong = write(tmp_path / "w.csv", "corpus,speaker,part", "c,s0,train")
    assert "no column split" in refusal(read_split, wrong, table)
    odd = write(tmp_path / "o.csv", "corpus,speaker,split", "c,s0,trian")
    assert "split 'trian' is unknown (did you mean \"train\"?)" in refusal(read_split, odd, table)
    assert "nor mini" in refusal(read_split, "minni", table)
    assert "no such file" in refusal(read_split, str(tmp_path / "none.csv"), table)


def test_speaker_ids_are_read_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "corpus,speaker,split", "c,03,test")
    assert read_split(path, clips({"corpus": "c", "speaker": "03"}))["split"].to_pylist() == ["test"]


def test_shipped_split() -> None:
    lines = Path(str(SHIPPED["mini"])).read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    assert len({(corpus, speaker) for corpus, speaker, _ in rows}) == len(rows) == 24 + 10 + 9
    of = {(c, split): sorted(s for k, s, p in rows if (k, p) == (c, split)) for c, _, split in rows}
    assert of["nemo", "dev"] == ["SM0"]
    assert of["nemo", "test"] == ["TP0", "WR0"]
    assert of["nemo", "train"] == ["EB0", "IC0", "KD0", "KS0", "MK0", "MP0"]
    assert of["emodb", "train"] == ["03", "08", "09", "10", "11", "12"]
    assert of["emodb", "dev"] == ["13"]
    assert of["emodb", "test"] == ["14", "15", "16"]
    assert of["ravdess", "train"] == [f"Actor_{i:02d}" for i in range(1, 17)]
    assert of["ravdess", "dev"] == ["Actor_17", "Actor_18"]
    assert of["ravdess", "test"] == [f"Actor_{i}" for i in range(19, 25)]


def test_shipped_split_on_real_corpora(shared: Path) -> None:
    tables = [read(f"{name}:{shared / 'corpora' / name}") for name in ("nemo", "ravdess", "emodb")]
    number = Counter()
    for table in tables:
        split = read_split("mini", table)
        check_splits(split)
        number.update(split["split"].to_pylist())
    assert number == {"train": 4103, "dev": 719, "test": 1634}  # 4103: as in the trial training
