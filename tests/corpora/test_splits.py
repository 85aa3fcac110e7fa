from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from fake_corpora import clips, refusal, write
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.corpora.clips import check_splits, shared_speakers
from zsfuse_ray.corpora.readers import read
from zsfuse_ray.corpora.splits import SHIPPED, folds, read_split, split_by_speaker


def corpus(*shown: dict[str, int], name: str = "c") -> pa.Table:
    """A corpus whose i-th speaker has so many clips of each emotion."""
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


def split_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["speaker"].to_pylist(), table["split"].to_pylist(), strict=True))


@settings(deadline=None, max_examples=150)
@given(
    corpora, st.integers(0, 5), st.sampled_from([(0.1, 0.2), (0.05, 0.9), (0, 0.2), (0.2, 0), (0.45, 0.45)])
)
def test_splits_keep_speakers_together(table: pa.Table, seed: int, shares: tuple[float, float]) -> None:
    dev, test = shares
    split = split_by_speaker(table, dev=dev, test=test, seed=seed)
    assert split.drop_columns("split").equals(table.drop_columns("split"))
    assert shared_speakers(split) == {}
    asked = {"train"} | {name for name, share in (("dev", dev), ("test", test)) if share}
    assert set(split["split"].to_pylist()) == asked  # every clip in one, nobody forgotten
    assert split.equals(split_by_speaker(table, dev=dev, test=test, seed=seed))
    # The order of the clips is no matter.
    order = np.random.default_rng(seed).permutation(len(table))
    assert split_of(split_by_speaker(table.take(order), dev=dev, test=test, seed=seed)) == split_of(split)


@settings(deadline=None, max_examples=150)
@given(corpora, st.integers(0, 3))
def test_every_emotion_is_in_train_where_that_can_be(table: pa.Table, seed: int) -> None:
    split = split_by_speaker(table, dev=0.1, test=0.2, seed=seed)
    rows = split.to_pylist()
    trained = {row["emotion"] for row in rows if row["split"] == "train"}
    who_shows = defaultdict(set)
    for row in rows:
        who_shows[row["emotion"]].add(row["speaker"])
    parts = {part: {r["speaker"] for r in rows if r["split"] == part} for part in ("dev", "test")}
    for emotion in who_shows.keys() - trained:
        # Only a part's first speaker is ever taken so: then no two others would have left every emotion.
        lone = [part for part in parts.values() if part & who_shows[emotion]]
        assert any(len(part) == 1 for part in lone)


def test_a_class_that_one_speaker_shows_stays_in_train() -> None:
    table = corpus({"angry": 4, "sad": 4, "calm": 4}, *[{"angry": 4, "sad": 4}] * 9)
    for seed in range(20):
        assert split_of(split_by_speaker(table, seed=seed))["s0"] == "train"


def test_the_last_two_to_show_an_emotion_are_not_both_taken() -> None:
    table = corpus({"calm": 2, "sad": 2}, {"calm": 2, "sad": 2}, *[{"sad": 2, "angry": 2}] * 2)
    for seed in range(10):
        split = split_of(split_by_speaker(table, dev=0.45, test=0.45, seed=seed))
        assert "train" in (split["s0"], split["s1"])
        assert "train" in (split["s2"], split["s3"])


def test_shares_and_balance_are_as_asked_for() -> None:
    table = corpus(*[{"angry": 5, "happy": 3, "sad": 2}] * 20)
    for seed in range(5):
        split = split_by_speaker(table, dev=0.1, test=0.2, seed=seed)
        assert Counter(split["split"].to_pylist()) == {"train": 140, "dev": 20, "test": 40}
        genders = Counter(zip(split["split"].to_pylist(), split["gender"].to_pylist(), strict=True))
        assert genders["test", "male"] == genders["test", "female"] == 20
        assert genders["dev", "male"] == genders["dev", "female"] == 10


def test_every_corpus_gets_its_share() -> None:
    parts = [corpus(*[{"angry": 2, "sad": 2}] * size, name=str(size)) for size in (10, 20)]
    split = split_by_speaker(pa.concat_tables(parts), dev=0.1, test=0.2)
    number = Counter(zip(split["corpus"].to_pylist(), split["split"].to_pylist(), strict=True))
    assert number == {
        ("10", "train"): 28, ("10", "dev"): 4, ("10", "test"): 8,
        ("20", "train"): 56, ("20", "dev"): 8, ("20", "test"): 16,
    }  # fmt: skip


def test_seeds_differ() -> None:
    table = corpus(*[{"angry": 2, "sad": 2}] * 20)
    assert len({str(split_of(split_by_speaker(table, seed=seed))) for seed in range(5)}) == 5


def test_what_cannot_be_split() -> None:
    two = corpus({"sad": 3, "angry": 3}, {"sad": 3, "angry": 3})
    assert "2 speakers cannot be split into 3 parts" in refusal(split_by_speaker, two)
    assert set(split_by_speaker(two, dev=0)["split"].to_pylist()) == {"train", "test"}
    said = refusal(split_by_speaker, clips({"emotion": "sad"}, {"emotion": "sad", "speaker": "1"}))
    assert "1 of 2 clips name no speaker" in said
    for dev, test in ((0.5, 0.5), (-0.1, 0.2), (0, 1), (float("nan"), 0.1)):
        assert "must be shares" in refusal(split_by_speaker, two, dev=dev, test=test)


@settings(deadline=None, max_examples=60)
@given(corpora, st.integers(2, 9), st.integers(0, 3))
def test_folds_keep_speakers_together(table: pa.Table, n: int, seed: int) -> None:
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


def test_no_fold_is_empty() -> None:
    """Speakers who share neither emotion nor gender would go together as well as apart."""
    assert folds(corpus({"angry": 1}, {"happy": 1}), 2)["fold"].to_pylist() in ([1, 2], [2, 1])


def test_a_protocol_keeps_its_folds() -> None:
    own = clips(*({"corpus": "own", "emotion": "sad", "fold": fold} for fold in (1, 2, 3, 3)))
    rest = corpus(*[{"angry": 2, "sad": 2}] * 5)
    folded = folds(pa.concat_tables([own, rest]), 5)
    assert folded["fold"].to_pylist()[:4] == [1, 2, 3, 3]
    assert sorted(Counter(folded["fold"].to_pylist()[4:]).items()) == [(fold, 4) for fold in range(1, 6)]
    some = clips({"corpus": "own", "fold": 1}, {"corpus": "own"})
    assert "1 of 2 clips of own have no fold" in refusal(folds, some, 2)
    assert "at least 2" in refusal(folds, rest, 1)
    assert "name no speaker" in refusal(folds, clips({"corpus": "x"}, {"corpus": "x"}), 2)


def test_a_split_file(tmp_path: Path) -> None:
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


def test_ids_of_speakers_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "corpus,speaker,split", "c,03,test")
    assert read_split(path, clips({"corpus": "c", "speaker": "03"}))["split"].to_pylist() == ["test"]


def test_the_shipped_split() -> None:
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


def test_the_shipped_split_on_the_real_corpora(shared: Path) -> None:
    tables = [read(f"{name}:{shared / 'corpora' / name}") for name in ("nemo", "ravdess", "emodb")]
    number = Counter()
    for table in tables:
        split = read_split("mini", table)
        check_splits(split)
        number.update(split["split"].to_pylist())
    assert number == {"train": 4103, "dev": 719, "test": 1634}  # 4103: as the trial trained
