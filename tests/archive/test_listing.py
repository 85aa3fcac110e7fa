import os
from pathlib import Path

import pyarrow as pa
import pytest

from tests.archive.listed_files import manifest, touch
from zsfuse_ray.archive.listing import KEY, VERSION, carry, list_archive
from zsfuse_ray.audio.files import SIDECARS
from zsfuse_ray.audio.manifest import read_manifest
from zsfuse_ray.audio.sources import open_audio
from zsfuse_ray.errors import InputError

SECRET = "hunter2"


def names(table: pa.Table, folder: Path) -> list[str]:
    return [os.path.relpath(uri, folder) for uri in table["uri"].to_pylist()]


def refusal(call, *args) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_a_folder_is_listed_recursively_in_a_fixed_order(tmp_path: Path) -> None:
    found = ["b.wav", "a b/ünï 音.mp3", "a b/c/deep.bin", "no_suffix", "UPPER.WAV"]
    touch(tmp_path, *found, ".hidden.wav", ".git/objects/x.wav", "a b/._b.wav")
    table = list_archive(str(tmp_path))
    assert sorted(names(table, tmp_path)) == sorted(found)
    assert len(set(table[KEY].to_pylist())) == len(found)
    assert table["size"].to_pylist() == [5] * len(found)
    assert table["start_s"].null_count == table["end_s"].null_count == len(found)
    assert list_archive(str(tmp_path)).equals(table)


def test_sidecars_are_not_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.txtx", *(f"beside{suffix.upper()}" for suffix in SIDECARS))
    assert names(list_archive(str(tmp_path)), tmp_path) == ["a.wav", "b.txtx"]


def test_a_single_file(tmp_path: Path) -> None:
    touch(tmp_path, "a b [1].wav", "other.wav")
    assert names(list_archive(str(tmp_path / "a b [1].wav")), tmp_path) == ["a b [1].wav"]


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x/a.wav")
    monkeypatch.chdir(tmp_path)
    assert list_archive("x")["uri"].to_pylist() == [str(tmp_path / "x/a.wav")]
    assert list_archive("x/*.wav")["uri"].to_pylist() == [str(tmp_path / "x/a.wav")]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.wav", ["a.wav", "b c.wav"]),
        ("**/*.mp3", ["deep/er/d.mp3", "ü.mp3"]),
        ("?.wav", ["a.wav"]),
        ("[ab].wav", ["a.wav"]),
    ],
)
def test_a_glob(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "a.wav", "b c.wav", ".c.wav", "ü.mp3", "deep/er/d.mp3", "a.txt")
    assert names(list_archive(f"{tmp_path}/{pattern}"), tmp_path) == found


def test_a_file_uri_lists_the_same_as_its_path(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "x/b.wav", ".hidden.wav", ".git/c.wav")
    assert list_archive(f"file://{tmp_path}").equals(list_archive(str(tmp_path)))


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "only/a.txt", "only/b.json")
    (tmp_path / "empty").mkdir()
    assert refusal(list_archive, f"{tmp_path}/nowhere") == f"{tmp_path}/nowhere: no such file or folder"
    assert refusal(list_archive, f"{tmp_path}/empty") == f"{tmp_path}/empty: the folder is empty"
    assert "no file matches" in refusal(list_archive, f"{tmp_path}/*.wav")
    message = refusal(list_archive, f"{tmp_path}/only")
    assert f"{tmp_path}/only: no audio in it" in message
    assert "2 other files" in message


@pytest.mark.skipif(os.name != "posix", reason="names that are not text exist on POSIX only")
def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).write_bytes(b"audio")
    uris = list_archive(str(tmp_path))["uri"].to_pylist()
    assert uris == [f"{tmp_path}/a.wav", f"file://{tmp_path}/%FF.wav"]
    with open_audio(uris[1]) as file:
        assert file.read() == b"audio"


def test_demo() -> None:
    assert list_archive("demo")["uri"].to_pylist() == ["demo:0", "demo:1", "demo:2", "demo:3"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_keeps_its_rows_and_columns(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"speaker": "007", "uri": "x/a b.wav", "start_s": 1.5, "end_s": 2.5, "emotion": "angry", "take": 3},
        {"speaker": "12", "uri": "/abs/ü.wav", "start_s": None, "end_s": None, "emotion": "sad", "take": 4},
        {"speaker": "x", "uri": "s3://b/c.mp3", "start_s": 2, "end_s": None, "emotion": "sad", "take": 5},
    ]
    table = list_archive(manifest(tmp_path, suffix, rows))
    columns = ["uri", "start_s", "end_s", "size", "speaker", "emotion", "take", KEY, VERSION]
    assert table.column_names == columns
    assert table["uri"].to_pylist() == [str(tmp_path / "x/a b.wav"), "/abs/ü.wav", "s3://b/c.mp3"]
    assert table["start_s"].to_pylist() == [1.5, None, 2.0]
    assert table["end_s"].to_pylist() == [2.5, None, None]
    assert table["speaker"].to_pylist() == ["007", "12", "x"]
    assert table["take"].to_pylist() == [3, 4, 5]


def test_ids_in_a_csv_are_text(tmp_path: Path) -> None:
    path = manifest(tmp_path, ".csv", [{"uri": "1.wav", "id": "007", "speaker": "01", "fold": "1"}])
    row = read_manifest(path).to_pylist()[0]
    assert (row["id"], row["speaker"], row["fold"]) == ("007", "01", "1")


def test_a_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b'\xef\xbb\xbfuri,emotion\r\n"a, b.wav","very ""sad"""\r\n')
    row = read_manifest(str(path)).to_pylist()[0]
    assert (row["uri"], row["emotion"]) == (str(tmp_path / "a, b.wav"), 'very "sad"')


def test_manifest_columns_with_reserved_names_are_renamed(tmp_path: Path) -> None:
    rows = [{"uri": "a.wav", "recording_id": "r1", "size": "big", "label": "sad", "probe_reason": "why"}]
    table = list_archive(manifest(tmp_path, ".csv", rows))
    row = table.to_pylist()[0]
    assert len(set(table.column_names)) == len(table.column_names)
    assert (row["manifest_recording_id"], row["size"]) == ("r1", None)
    assert {"r1", "big", "sad", "why"} <= set(row.values())
    assert not any(name.startswith("probe_") for name in table.column_names)  # reserved for the plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uris,emotion\na.wav,sad\n", 'needs a column uri (did you mean "uris"?)'),
        ("uri,emotion\n", "no rows"),
        ("", "cannot read the manifest"),
        ("uri,emotion\n,sad\n", "1 rows have no uri"),
        ("uri,uri\na.wav,b.wav\n", "twice"),
        ("uri,end_s\na.wav,0\n", "0 <= start_s < end_s"),
        ("uri,start_s,end_s\na.wav,2,2\n", "0 <= start_s < end_s"),
        ("uri,start_s\na.wav,-1\n", "0 <= start_s < end_s"),
        ("uri,end_s\na.wav,inf\n", "end_s must hold seconds"),
        ("uri,start_s\na.wav,1:30\n", "start_s must hold seconds"),
        ("uri,end_s\na.wav,late\n", "end_s must hold seconds"),
        ("uri,emotion\na.wav,sad,9\n", "cannot read the manifest"),
        ("uri\nftp://h/a.wav\n", "cannot read ftp://"),
        ("uri\nsimplecache::s3://b/a.wav\n", "cannot read"),
        (f"uri\nftp://me:{SECRET}@h/a.wav\n", "cannot read ftp://"),
    ],
)
def test_a_wrong_csv_manifest(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    assert message in refusal(list_archive, str(path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uri": None, "n": 1}, {"uri": "a", "n": 2}], "1 rows have no uri"),
        ([{"uri": 5}], "column uri must hold text"),
        ([{"uri": "a", "end_s": "3 s"}], "end_s must hold seconds"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_wrong_manifest(tmp_path: Path, suffix: str, rows: list[dict], message: str) -> None:
    assert message in refusal(list_archive, manifest(tmp_path, suffix, rows))


def test_nan_seconds_are_refused(tmp_path: Path) -> None:
    rows = [{"uri": "a.wav", "start_s": 0.0, "end_s": float("nan")}]
    assert "end_s must hold seconds" in refusal(list_archive, manifest(tmp_path, ".parquet", rows))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_that_cannot_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    assert "no such file" in refusal(list_archive, str(path))
    path.write_bytes(b"PAR1\x00\xff{nonsense")
    assert str(path) in refusal(list_archive, str(path))


@pytest.mark.parametrize(
    "uri",
    [
        f"ftp://me:{SECRET}@h/a.wav",
        f"ftp://h/a.wav?token={SECRET}",
        f"simplecache::https://me:{SECRET}@h/a.wav",
        f"https://me:{SECRET}@127.0.0.1:9/list.csv",  # port 9: no server
        f"https://127.0.0.1:9/a/list.csv?X-Amz-Signature={SECRET}&n=list.csv",
    ],
)
def test_messages_contain_no_credentials(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsfuse_ray.audio.sources.RETRY_WAITS_S", ())
    refusal(list_archive, uri)


def test_carry_renames_manifest_columns_with_taken_names() -> None:
    row = {"recording_id": 0, "uri": "a", "start_s": None, "end_s": None, "size": 5, "probe_exact": True}
    recordings = pa.Table.from_pylist([row | {"emotion": "sad", "label": "theirs"}])
    columns = {"label": ["ours"]}
    carry(columns, recordings)
    assert pa.table(columns).to_pylist() == [{"label": "ours", "emotion": "sad", "manifest_label": "theirs"}]


@pytest.mark.parametrize(
    "order", [("label", "manifest_label", "Label"), ("manifest_label", "Label", "label")]
)
def test_no_carried_column_is_lost_whatever_the_order(order: tuple[str, ...]) -> None:
    recordings = pa.Table.from_pylist([{"uri": "a", **{name: name for name in order}}])
    columns = {"label": ["ours"]}
    carry(columns, recordings)
    row = pa.table(columns).to_pylist()[0]
    assert row["label"] == "ours"
    assert row["manifest_label"] == "manifest_label"
    assert sorted(row.values()) == sorted(["ours", *order])
    assert len({name.casefold() for name in row}) == len(row)  # SQL does not distinguish capitals


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("s3://good/a.wav", True),
        ("https://example.org/a.wav?x=1", True),
        ("https://me:pw@EXAMPLE.org/a.wav", True),
        ("hf://datasets/x/a.wav", True),
        ("s3://other/a.wav", False),
        ("https://example.org.evil.com/a.wav", False),
        ("https://example.org@evil.com/a.wav", False),
        ("http://169.254.169.254/latest", False),
        ("https://example.org:8080/a.wav", False),
        ("/etc/passwd", False),
        ("a.wav", False),
        ("file:///etc/passwd", False),
        ("demo:1", False),
    ],
)
def test_a_manifest_is_limited_to_allowed_addresses(tmp_path: Path, uri: str, allowed: bool) -> None:
    path = manifest(tmp_path, ".jsonl", [{"uri": "s3://good/first.wav"}, {"uri": uri}])
    hosts = ("s3://good", "example.org", "hf://")
    if allowed:
        assert len(list_archive(path, hosts)) == 2
    else:
        assert "row 2" in refusal(list_archive, path, hosts)
        assert len(list_archive(path)) == 2
        assert (
            uri.startswith("http")
            or uri == "s3://other/a.wav"
            or len(list_archive(path, (*hosts, "file://"))) == 2
        )
