"""Manifests as spreadsheets and other tools write them; all name the same slices of a.wav."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zsfuse_ray.audio import rows
from zsfuse_ray.audio.manifest import read_manifest
from zsfuse_ray.errors import InputError

SLICES = [(0.0, 5.5), (5.5, 11.5)]


def slices(path: Path) -> list[tuple[float | None, float | None]]:
    table = read_manifest(str(path))
    assert table["uri"].to_pylist() == [str(path.parent / "a.wav")] * len(table)
    return [(row["start_s"], row["end_s"]) for row in table.to_pylist()]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_manifest(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "headings",
    [
        "uri,start_s,end_s",
        "URI,Start_s,END_S",
        " uri , start_s,end_s ",
        "Uri,Start (s),End [s]",
        "url,start,end",
        "path,begin,stop",
        "file,Start Time,End Time",
        "file_name,start-sec,end-sec",
        "audio_filepath,start_seconds,end_seconds",
        "filename,onset,offset",
        "audio,tmin,tmax",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_headings(tmp_path: Path, headings: str, suffix: str) -> None:
    names = headings.split(",")
    cells = [("a.wav", *times) for times in SLICES]
    path = tmp_path / f"list{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in cells))
    elif suffix == ".parquet":
        pq.write_table(pa.table([pa.array(values) for values in zip(*cells, strict=True)], names), path)
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        path.write_text("\n".join(delimiter.join(map(str, row)) for row in [names, *cells]))
    assert slices(path) == SLICES


@pytest.mark.parametrize(
    "content",
    [
        "uri, start_s, end_s\na.wav, 0, 5.5\na.wav, 5.5, 11.5\n",
        'uri, start_s, end_s, text\na.wav, 0, 5.5, "one, two"\na.wav, 5.5, 11.5, three\n',
        "uri,start_s,end_s,,\na.wav,0,5.5,,\na.wav,5.5,11.5,,\n",
        ",uri,start_s,end_s\n,a.wav,0,5.5\n,a.wav,5.5,11.5\n",
        "uri,start_s,end_s\na.wav,0,5.5,,\na.wav,5.5,11.5,,\n,,\n,,,,\n\n",
        "\n\nuri,start_s,end_s\r\n\r\na.wav,0,5.5\r\na.wav,5.5,11.5\r\n",
        "\ufeffuri;start_s;end_s\na.wav;0;5,5\na.wav;5,5;11,5\n",
        "uri;start_s;end_s\na.wav;0;5.5\na.wav;5.5;11.5\n",
        "\ufeffuri\tstart_s\tend_s\na.wav\t0\t5.5\na.wav\t5.5\t11.5\n".encode("utf-16"),
        'uri,text,start_s,end_s\na.wav,"line\nbreak",0,5.5\na.wav,b,5.5,11.5\n',
        "uri,start_ms,end_ms\na.wav,0,5500\na.wav,5500,11500\n",
        "uri,start,duration\na.wav,0,5.5\na.wav,5.5,6\n",
        f"uri,text,start_s,end_s\na.wav,{'x' * 3_000_000},0,5.5\na.wav,b,5.5,11.5\n",
    ],
)
def test_a_csv_of_a_spreadsheet(tmp_path: Path, content: str | bytes) -> None:
    assert slices(written(tmp_path, "list.csv", content)) == SLICES


def test_cells_that_a_spreadsheet_leaves_out(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "uri,start_s,end_s,note\na.wav,1\na.wav,2,3\na.wav\n")
    assert slices(path) == [(1, None), (2, 3), (None, None)]


def test_a_column_without_a_heading_is_kept_if_it_has_content(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", ",uri,,note\n0,a.wav,,x\n1,b.wav,,y\n")
    table = read_manifest(str(path))
    assert table.column_names == ["uri", "start_s", "end_s", "size", "column_1", "note"]
    assert table["column_1"].to_pylist() == [0, 1]


@pytest.mark.parametrize("as_array", [False, True])
def test_nemo(tmp_path: Path, as_array: bool) -> None:
    given = [
        {"audio_filepath": "a.wav", "duration": 3, "text": "x"},
        {"audio_filepath": "a.wav", "offset": 1.5, "duration": 2.5, "label": "y"},
        {"audio_filepath": "a.wav", "offset": None, "duration": None},
    ]
    text = json.dumps(given, indent=1) if as_array else "\n".join(map(json.dumps, given))
    path = written(tmp_path, "train_manifest.json", text)
    assert slices(path) == [(None, 3), (1.5, 4), (None, None)]
    table = read_manifest(str(path))
    assert table.column_names == ["uri", "start_s", "end_s", "size", "text", "label"]


def test_a_duration_that_is_no_slice_is_carried(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "uri,duration\na.wav,3:25\n")
    assert slices(path) == [(None, None)]
    assert read_manifest(str(path))["duration"].to_pylist() != [None]
    path = written(tmp_path, "both.csv", "uri,start,end,duration\na.wav,1,2,9\n")
    assert slices(path) == [(1, 2)]
    assert read_manifest(str(path))["duration"].to_pylist() == [9]


def test_the_exact_name_comes_first(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "start,file,uri,start_s\n7,z.wav,a.wav,1\n")
    assert slices(path) == [(1, None)]
    assert (
        read_manifest(str(path)).to_pylist()[0] | {"start": 7, "file": "z.wav"}
        == read_manifest(str(path)).to_pylist()[0]
    )


def test_columns_with_other_capitals_are_text(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "URI,ID,Speaker , Take\na.wav,007,01,3\n")
    row = read_manifest(str(path)).to_pylist()[0]
    assert (row["id"], row["speaker"], row["Take"]) == ("007", "01", 3)


def test_values_of_mixed_type_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"uri": "a.wav", "id": 1, "n": 1}, {"uri": "a.wav", "id": "x", "n": 2.5}, {"uri": "a.wav"}]
    path = written(tmp_path, "list.jsonl", "\n".join(map(json.dumps, lines)))
    for chunk in (50_000, 1):
        monkeypatch.setattr(rows, "CHUNK_ROWS", chunk)
        table = read_manifest(str(path))
        assert table["id"].to_pylist() == ["1", "x", None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("uri,start_s,end_s\na.wav,0,1\na.wav,3,2\n", ["row 2", "a.wav", "start_s 3", "end_s 2"]),
        ("uri,Begin,Stop\na.wav,3,2\na.wav,3,2\n", ["row 1", "Begin 3", "Stop 2", "in 1 more row"]),
        ("uri,start,duration\na.wav,3,1\na.wav,3,-1\n", ["row 2", "duration -1"]),
        ("uri,start_s,End\na.wav,0,1\na.wav,0,soon\n", ["row 2", "column End", "soon"]),
        ("uri,start_s\na.wav,0\na.wav,inf\n", ["row 2", "column start_s", "inf"]),
        ("uri,start_s\na.wav,0\n ,1\n", ["row 2", "column uri"]),
        ("File,start_s\na.wav,0\n,1\n", ["row 2", "column File is empty"]),
        ("uri,start_s\na.wav,0\na.wav,1,2\n", ["row 2", "3 columns"]),
        ("uri,start_s\nb.wav,0\nftp://h/a.wav,1\n", ["row 2", "ftp://"]),
        ("Uri,uri\na.wav,b.wav\n", ["twice"]),
        ("note,note,uri\n1,2,b.wav\n", ["column note", "twice"]),
        ("uri,text\na.wav,\xff\n".encode("latin1"), ["UTF-8"]),
        ('uri,text\na.wav,"open\nb.wav,x\n', ["cannot read the manifest"]),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    message = refusal(written(tmp_path, "list.csv", content))
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("line", ['{"uri": "b.wav"', '"b.wav"', "[1]"])
def test_a_wrong_line_of_json_is_named(tmp_path: Path, line: str) -> None:
    assert "row 2" in refusal(written(tmp_path, "list.jsonl", f'{{"uri": "a.wav"}}\n\n{line}\n'))


def test_a_heading_that_is_nearly_a_known_one_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "list.csv", "uri,strat_s,note\na.wav,1,x\n")
    with caplog.at_level(logging.WARNING):
        read_manifest(str(path))
    assert "column strat_s" in caplog.text
    assert "start_s" in caplog.text
    assert "note" not in caplog.text


def test_a_single_quotation_mark_in_a_tsv(tmp_path: Path) -> None:
    path = written(tmp_path, "list.tsv", 'uri\ttext\na.wav\t"well\nb.wav\tb\n')
    assert read_manifest(str(path))["text"].to_pylist() == ['"well', "b"]


def test_names_of_own_columns_do_not_depend_on_their_order(tmp_path: Path) -> None:
    for order in ("size,manifest_size", "manifest_size,size"):
        path = written(tmp_path, "list.csv", f"uri,{order}\na.wav,{'1,2' if order[0] == 's' else '2,1'}\n")
        row = read_manifest(str(path)).to_pylist()[0]
        assert (row["size"], row["manifest_size"], row["manifest_manifest_size"]) == (None, 2, 1)


def test_the_cases(shared: Path) -> None:
    folder = shared / "cases" / "manifests"
    paths = [path for path in folder.iterdir() if path.stem not in ("a", "end_before")]
    found = {path.name: read_manifest(str(path)) for path in paths}
    times = {
        name: list(zip(table["start_s"].to_pylist(), table["end_s"].to_pylist(), strict=True))
        for name, table in found.items()
    }
    assert times == {
        "excel.csv": [(0, 5), (5, 11)],
        "mixed.jsonl": [(None, None)] * 2,
        "nemo.json": [(None, 3)],
        "quote_newline.csv": [(None, None)],
        "space_after_comma.csv": [(1, 2)],
        "spaces.csv": [(0, 5.5), (5.5, 11.5)],
        "tab.tsv": [(0.5, None)],
        "upper.csv": [(1, None)],
    }
