import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpora.fake_corpora import columns, refusal, touch, write
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.corpora.readers import OTHERS, read
from zsfuse_ray.corpora.registry import CORPORA

HEAD = ("uri", "emotion", "speaker", "split", "start_s", "style")
ROWS = [
    dict(zip(HEAD, row, strict=True))
    for row in (
        ("x/a b.wav", "Anger", "007", "train", 1.0, "loud"),
        ("/abs/ü.wav", "sad", "12", "val", None, None),
        ("s3://b/c.mp3", "wistful", "x", None, 2.5, "low"),
    )
]


def manifest(folder: Path, suffix: str) -> str:
    path = folder / f"mine{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in ROWS]
        path.write_text("\n".join([",".join(ROWS[0]), *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_manifest(tmp_path: Path, suffix: str) -> None:
    table = read(manifest(tmp_path, suffix))
    assert table.column_names == [*CLIPS.names, "style"]
    assert pa.schema(list(table.schema)[: len(CLIPS)]) == CLIPS
    assert table["uri"].to_pylist() == [str(tmp_path / "x/a b.wav"), "/abs/ü.wav", "s3://b/c.mp3"]
    assert table["emotion"].to_pylist() == ["angry", "sad", "wistful"]
    assert table["speaker"].to_pylist() == ["007", "12", "x"]
    assert table["split"].to_pylist() == ["train", "dev", None]
    assert table["start_s"].to_pylist() == [1.0, None, 2.5]
    assert set(table["corpus"].to_pylist()) == {"mine"}


def test_manifest_by_url(tmp_path: Path) -> None:
    path = manifest(tmp_path, ".csv")
    assert columns(read(f"file://{path}"), "emotion") == columns(read(path), "emotion")


def test_manifest_without_labels_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "uri,feeling", "a.wav,sad")
    assert refusal(read, path).startswith(
        f"{path}: no label column emotion among uri, start_s, end_s, size, feeling"
    )
    path = write(tmp_path / "n.csv", "talk,emotion", "a.wav,sad")
    assert "needs a column uri" in refusal(read, path)


@pytest.mark.parametrize("name", ["uri", "file", "path", "filename", "file_name"])
def test_folder_with_metadata(tmp_path: Path, name: str) -> None:
    write(tmp_path / "my_corpus/metadata.csv", f"{name},emotion,speaker,duration_s", "x/a.wav,Joy,01,1.5")
    table = read(f"metadata:{tmp_path}/my_corpus/")
    assert columns(table, "uri", "emotion", "speaker", "corpus", "duration_s") == {
        "a": (str(tmp_path / "my_corpus/x/a.wav"), "happy", "01", "my_corpus", 1.5)
    }


def test_metadata_without_file_column_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "metadata.csv", "wave,emotion", "a.wav,Joy")
    assert "needs a column uri or file or path" in refusal(read, f"metadata:{tmp_path}")
    assert "contains no metadata.csv" in refusal(read, f"metadata:{touch(tmp_path / 'x', 'a.wav')}")


def test_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "corpus/wav/03a01Fa.wav")
    monkeypatch.chdir(tmp_path)
    assert read("emodb:corpus")["uri"].to_pylist() == [str(tmp_path / "corpus/wav/03a01Fa.wav")]
    monkeypatch.chdir(tmp_path / "corpus")
    assert len(read("emodb:.")) == 1


def test_unknown_sources_are_errors(tmp_path: Path) -> None:
    assert refusal(read, "ravdes:/x") == "unknown corpus 'ravdes' (did you mean \"ravdess\"?)"
    message = refusal(read, str(tmp_path))
    assert all(name in message for name in (*CORPORA, *OTHERS, ".csv"))
    assert "no such file" in refusal(read, f"{tmp_path}/none.csv")
    assert "cannot read ftp://" in refusal(read, "emodb:ftp://host/folder")
