"""Columns of a manifest in a growing plan."""

from pathlib import Path

import pytest

from tests.archive.growing_archives import config, content, grow, rows_of
from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.errors import InputError


def write_manifest(folder: Path, columns: dict) -> Path:
    path = folder / "list.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


A, B = "archive/a.wav", "archive/b.wav"


def test_columns_of_a_manifest_are_kept(archive: Path, folder: Path) -> None:
    path = write_manifest(archive.parent, {"uri": [A, A], "start_s": [0, 5], "end_s": [5, 9], "take": [3, 4]})
    plan, _ = grow(config(path, folder))
    assert plan.columns == {"take": "int64"}
    assert [row["take"] for row in rows_of(plan, "recordings")] == [3, 4]
    path = write_manifest(archive.parent, {"uri": [A, A], "start_s": [0, 5], "end_s": [5, 9], "take": [3, 7]})
    plan, changes = grow(config(path, folder))
    assert (len(changes.new), changes.outdated.tolist()) == (0, [1])
    assert [row["take"] for row in rows_of(plan, "recordings")] == [3, 4, 7]


@pytest.mark.parametrize(
    ("columns", "differs"),
    [({}, "take"), ({"take": [3, 4], "emotion": ["x", "y"]}, "emotion"), ({"tune": [3, 4]}, "take, tune")],
)
def test_other_columns_are_refused(archive: Path, folder: Path, columns: dict, differs: str) -> None:
    path = write_manifest(archive.parent, {"uri": [A], "take": [3]})
    grow(config(path, folder))
    before = content(folder)
    write_manifest(archive.parent, {"uri": [A, B], **columns})
    with pytest.raises(InputError) as caught:
        grow(config(path, folder))
    assert f"its columns differ from the plan ({differs})" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("first", "later", "kept"),
    [
        ([1.5], [2, 3], [1.5, 2.0, 3.0]),
        (["x"], [3, 4], ["x", "3", "4"]),
        ([3], [3, 4.5], None),
        ([3], [3, "x"], None),
    ],
)
def test_a_column_of_another_type_is_converted_or_refused(
    archive: Path, folder: Path, first: list, later: list, kept: list | None
) -> None:
    path = write_manifest(archive.parent, {"uri": [A], "take": first})
    grow(config(path, folder))
    write_manifest(archive.parent, {"uri": [A, B], "take": later})
    if kept is None:
        with pytest.raises(InputError, match=r"column take is .* in the plan") as caught:
            grow(config(path, folder))
        assert "\n" not in str(caught.value)
        return
    plan, _ = grow(config(path, folder))
    assert [row["take"] for row in rows_of(plan, "recordings")] == kept
    schemas = [plan.out.dataset(plan_file(n, "recordings")).schema for n in (0, 1)]
    assert schemas[1].equals(schemas[0])


def test_an_empty_column_accepts_values_later(archive: Path, folder: Path) -> None:
    grow(config(write_manifest(archive.parent, {"uri": [A], "take": [""]}), folder))
    plan, _ = grow(config(write_manifest(archive.parent, {"uri": [A, B], "take": ["", "x"]}), folder))
    assert plan.columns == {"take": "string"}
    assert [row["take"] or None for row in rows_of(plan, "recordings")] == [None, "x"]
