from pathlib import Path

import pyarrow as pa

from tests.corpora.fake_corpora import columns, refusal, touch, write
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.corpora.load import concatenated, load


def test_load_concatenates_sources(tmp_path: Path) -> None:
    touch(tmp_path, "e/03a01Fa.wav", "e/13a01Wa.wav", "r/03-01-03-01-01-01-17.wav")
    path = write(tmp_path / "own.csv", "uri,emotion,speaker,repetition", "a.wav,Sarcastic,me,second")
    table = load([f"emodb:{tmp_path}/e", f"ravdess:{tmp_path}/r", path])
    assert table.column_names[: len(CLIPS)] == CLIPS.names
    assert columns(table, "emotion", "speaker", "corpus", "intensity", "repetition") == {
        "03a01Fa": ("happy", "03", "emodb", None, None),
        "13a01Wa": ("angry", "13", "emodb", None, None),
        "03-01-03-01-01-01-17": ("happy", "Actor_17", "ravdess", "normal", "1"),
        "a": ("sarcastic", "me", "own", None, "second"),
    }


def test_split_file_replaces_the_splits(tmp_path: Path) -> None:
    touch(tmp_path, "e/03a01Fa.wav", "e/13a01Wa.wav", "e/16a01Wa.wav")
    table = load((f"emodb:{tmp_path}/e",), "mini")
    assert {stem: split for stem, (split,) in columns(table, "split").items()} == {
        "03a01Fa": "train", "13a01Wa": "dev", "16a01Wa": "test"
    }  # fmt: skip
    own = write(tmp_path / "own.csv", "uri,emotion,speaker", "a.wav,calm,me")
    assert "no split for speaker me of own" in refusal(load, (f"emodb:{tmp_path}/e", own), "mini")


def test_invalid_sources_are_errors(tmp_path: Path) -> None:
    assert "give a manifest or CORPUS:FOLDER" in refusal(load, [])
    one = write(tmp_path / "one.csv", "uri,emotion", "a.wav,sad", "b.wav,sadness")
    assert refusal(load, [one]) == f'{one}: every clip is labelled "sad"; at least two labels are needed'
    both = write(
        tmp_path / "both.csv", "uri,emotion,speaker,split", "a.wav,sad,me,train", "b.wav,calm,me,test"
    )
    assert "speaker me of both is in both train and test" in refusal(load, [both])
    twice = write(tmp_path / "twice.csv", "uri,emotion,split", "a.wav,sad,train", "a.wav,calm,test")
    assert "a.wav is in both train and test" in refusal(load, [twice])


def test_columns_of_mixed_types_become_text() -> None:
    tables = [
        pa.table({**{field.name: pa.nulls(1, field.type) for field in CLIPS}, **extra})
        for extra in ({"n": [1], "x": [1], "only": [True]}, {"n": [2.5], "x": ["a"]}, {"x": pa.nulls(1)})
    ]
    joined = concatenated(tables)
    assert joined["n"].to_pylist() == [1.0, 2.5, None]
    assert joined["x"].to_pylist() == ["1", "a", None]
    assert joined["only"].to_pylist() == [True, None, None]
    assert joined.column_names == [*CLIPS.names, "n", "x", "only"]
