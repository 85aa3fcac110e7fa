import csv
import json
from pathlib import Path

import pytest

from zsfuse_ray.audio.manifest import read_manifest, read_texts
from zsfuse_ray.errors import InputError

# The requirements on every manifest are tested in tests/archive/test_listing.py.


def test_uri_column_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("file,emotion\nx/a.wav,sad\n")
    row = read_manifest(str(path), ("uri", "file")).to_pylist()[0]
    assert (row["uri"], row["emotion"]) == (str(tmp_path / "x/a.wav"), "sad")
    assert "file" not in row
    with pytest.raises(InputError, match="needs a column uri or path"):
        read_manifest(str(path), ("uri", "path"))
    path.write_text("file,uri\nx.wav,y.wav\n")
    row = read_manifest(str(path), ("uri", "file")).to_pylist()[0]
    assert (row["uri"], row["file"]) == (str(tmp_path / "y.wav"), "x.wav")


def test_read_texts_reads_values_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("who,number,more\n007,1,x\n12,02,y\n")
    assert read_texts(str(path), ("number", "who")) == [
        {"number": "1", "who": "007"},
        {"number": "02", "who": "12"},
    ]
    path.with_suffix(".jsonl").write_text('{"who": "007", "number": 1}\n')
    assert read_texts(str(path.with_suffix(".jsonl")), ("who", "number")) == [{"who": "007", "number": "1"}]
    with pytest.raises(InputError, match=r'no column mor \(did you mean "more"\?\)'):
        read_texts(str(path), ("mor",))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json"])
def test_a_row_may_be_longer_than_a_megabyte(tmp_path: Path, name: str) -> None:
    long, path = "a transcript, with 'quotes' and a comma " * 40_000, tmp_path / name
    assert len(long) > 1 << 20
    rows = [{"uri": "/a.wav", "text": long, "start_s": 1.0}, {"uri": "/b.wav", "text": "b", "start_s": 2.0}]
    with path.open("w", newline="") as file:
        if name.endswith("sv"):
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.write("\n".join(map(json.dumps, rows)))
    table = read_manifest(str(path))
    assert table["text"].to_pylist() == [long, "b"]
    assert table["uri"].to_pylist() == ["/a.wav", "/b.wav"]
    assert table["start_s"].to_pylist() == [1.0, 2.0]
