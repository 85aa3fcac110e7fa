"""Which segments of a table a manifest labels, in which groups."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, MODELS, Small, small_archive
from zsfuse_ray.archive.normalise import groups_of
from zsfuse_ray.archive.table import EncodedTable, read_table
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.training.from_table import labelled_rows


@pytest.fixture
def table(tmp_path: Path) -> EncodedTable:
    small: Small = small_archive(tmp_path / "table")
    small.encode(BOTH)
    return read_table(small.out.uri, vectors=True)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def place(table: EncodedTable, row: int) -> dict[str, Any]:
    one = table.segments.slice(row, 1).to_pylist()[0]
    return {"uri": one["recording_uri"], "start_s": one["start_s"], "end_s": one["end_s"]}


def test_exact_times_label_their_segments(table: EncodedTable, tmp_path: Path) -> None:
    picks = {0: "Anger", 2: "sad", 3: "smug"}
    rows = [place(table, row) | {"emotion": name} for row, name in picks.items()]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows[::-1]))
    assert found.rows.tolist() == [0, 2, 3]
    assert found.emotions == ("angry", "sad", "smug")
    assert found.targets(("sad", "anger", "smug")).tolist() == [1, 0, 2]
    assert found.by == "recording"
    uris = table.segments["recording_uri"].to_pylist()
    assert found.groups.tolist() == [f"recording {uris[row]}" for row in picks]
    np.testing.assert_array_equal(found.logits("specialist"), table.logits()[[0, 2, 3]])
    np.testing.assert_array_equal(found.embeddings("alm", (2,)), table.audio((2,))[[0, 2, 3]])


def test_vectors_are_normalised_by_all_segments_of_their_recording(
    table: EncodedTable, tmp_path: Path
) -> None:
    rows = [place(table, row) | {"emotion": name} for row, name in {0: "angry", 2: "sad"}.items()]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows))
    every = table.vectors["specialist"]
    np.testing.assert_array_equal(found.vectors("specialist"), every[[0, 2]])
    expected = normalised(every, groups_of(table.segments, "recording"))[[0, 2]]
    np.testing.assert_array_equal(found.vectors("specialist", "recording"), expected)
    assert not np.allclose(expected, every[[0, 2]])


def test_more_than_half_of_a_segment_is_enough(
    table: EncodedTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = place(table, 0), place(table, 1)

    def with_share(at: dict[str, Any], share: float) -> dict[str, Any]:
        return at | {"end_s": at["start_s"] + share * (at["end_s"] - at["start_s"])}

    others = place(table, 3)
    rows = [
        with_share(first, 0.6) | {"emotion": "sad"},
        with_share(second, 0.4) | {"emotion": "angry"},
        others | {"emotion": "angry"},
        {"uri": "/elsewhere.wav", "start_s": 1, "end_s": 2, "emotion": "sad"},
    ]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows))
    assert found.rows.tolist() == [0, 3]
    (line,) = [record.message for record in caplog.records]
    assert f"2 of 4 rows of {tmp_path}/c.csv match no segment; the first: {second['uri']}" in line


def test_a_row_without_times_labels_the_whole_recording(table: EncodedTable, tmp_path: Path) -> None:
    uris = table.segments["recording_uri"].to_pylist()
    rows = [{"uri": uris[0], "emotion": "sad"}, {"uri": uris[-1], "emotion": "angry"}]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows))
    assert found.rows.tolist() == list(range(len(uris)))
    assert found.emotions == tuple("sad" if uri == uris[0] else "angry" for uri in uris)


def test_an_exact_row_overrules_and_contradictions_are_left_out(
    table: EncodedTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uris = table.segments["recording_uri"].to_pylist()
    rows = [
        {"uri": uris[0], "emotion": "sad"},
        place(table, 0) | {"emotion": "angry"},
        place(table, 1) | {"emotion": "angry"},
        place(table, 1) | {"emotion": "happy"},
    ]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows))
    assert dict(zip(found.rows.tolist(), found.emotions, strict=True))[0] == "angry"
    assert 1 not in found.rows
    (line,) = [record.message for record in caplog.records]
    assert "1 segments are labelled twice, differently, and left out" in line
    assert "angry and happy" in line


def test_speakers_are_the_groups_where_they_are_named(table: EncodedTable, tmp_path: Path) -> None:
    rows = [
        place(table, row) | {"emotion": name, "speaker": who}
        for row, name, who in ((0, "sad", "anna"), (1, "angry", "ben"), (2, "sad", ""))
    ]
    found = labelled_rows(table, write(tmp_path / "c.csv", rows))
    assert found.by == "speaker"
    assert found.groups.tolist() == ["speaker anna", "speaker ben", f"recording {rows[2]['uri']}"]


def test_a_table_has_its_own_labels_but_not_those_of_test_clips(table: EncodedTable) -> None:
    n = len(table.segments)
    found = labelled_rows(table, None)
    assert found.rows.tolist() == list(range(n))
    assert set(found.emotions) == {"e0", "e1"}
    split = pa.array(["test"] + ["train"] * (n - 1))
    with_split = EncodedTable(
        table.table,
        table.segments.append_column("split", split),
        table.models,
        table.embeddings,
        table.outputs,
        table.vectors,
    )
    assert labelled_rows(with_split, None).rows.tolist() == list(range(1, n))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"uri": "/no.wav", "start_s": 0, "end_s": 1, "emotion": "sad"}],
            "none of its 1 rows labels a segment",
        ),
        ([{"uri": "/no.wav", "start_s": 0, "end_s": 1}], "no label column emotion"),
        ([{"row": 0, "emotion": "sad"}, {"row": 1, "emotion": "sadness"}], 'every clip is labelled "sad"'),
    ],
)
def test_manifests_that_cannot_be_fitted_on(
    table: EncodedTable, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    placed = [(place(table, row["row"]) if "row" in row else {}) | row for row in rows]
    with pytest.raises(InputError) as caught:
        labelled_rows(table, write(tmp_path / "c.csv", placed))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_specialist_without_vectors_is_refused(table: EncodedTable) -> None:
    without = EncodedTable(table.table, table.segments, MODELS, table.embeddings, table.outputs, {})
    with pytest.raises(InputError, match="the vectors of classifier:untrained are not accessible"):
        labelled_rows(without, None).vectors("specialist")
