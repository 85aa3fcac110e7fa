"""Only the job that the record describes can claim a folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import versions

DECIDES = {"lr": 0.1, "labels": ["angry", "sad"]}


@pytest.fixture
def out(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


def claimed(out: Output, decides: dict[str, Any] | None = DECIDES, overwrite: bool = False) -> Any:
    return claim(
        out, record="job.json", what="job", ours=("tables", "page.md"), decides=decides, overwrite=overwrite
    )


def refusal(out: Output, decides: dict[str, Any] | None = DECIDES, overwrite: bool = False) -> str:
    with pytest.raises(InputError) as refused:
        claimed(out, decides, overwrite)
    return str(refused.value)


def test_a_folder_that_is_missing_or_empty_is_free(out: Output) -> None:
    assert claimed(out) is None
    Path(out.root).mkdir()
    assert claimed(out) is None


def test_files_of_other_names_are_unchanged(out: Output) -> None:
    out.write_bytes("mine.txt", b"kept")
    assert claimed(out) is None
    assert claimed(out, overwrite=True) is None
    assert [file.name for file in Path(out.root).iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["page.md", "tables/0.parquet"])
def test_another_programs_file_is_refused_even_with_overwrite(
    out: Output, name: str, overwrite: bool
) -> None:
    out.write_bytes(name, b"kept")
    message = refusal(out, overwrite=overwrite)
    assert message.startswith(f"{out.uri}/{name.split('/')[0]} exists, but no job wrote it")
    assert Path(out.path(name)).read_bytes() == b"kept"


def test_the_same_job_gets_its_record(out: Output) -> None:
    record = {"versions": versions(), "config": DECIDES | {"more": 1}, "status": "started"}
    out.write_json("job.json", record)
    assert claimed(out) == record


def test_another_configuration_is_refused_with_the_differences(out: Output) -> None:
    out.write_json("job.json", {"versions": versions(), "config": DECIDES})
    message = refusal(out, {"lr": 0.2, "labels": ["angry"], "new": "x" * 100})
    assert f"(lr 0.1 → 0.2; labels angry,sad → angry; new None → {'x' * 57}...)" in message
    assert "--overwrite" in message
    assert claimed(out, {"lr": 0.2}, overwrite=True) is None
    assert out.exists("job.json")


def test_a_job_that_cannot_be_resumed_is_refused(out: Output) -> None:
    out.write_json("job.json", {"versions": versions()})
    assert (
        refusal(out, None)
        == f"{out.uri} holds the results of another job; use another --output or --overwrite"
    )
    assert claimed(out, None, overwrite=True) is None


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["{", "[]", '{"config": {}}'])
def test_another_programs_record_is_refused(out: Output, content: str, overwrite: bool) -> None:
    out.write_bytes("job.json", content.encode())
    assert "job.json exists, but zsfuse_ray did not write it" in refusal(out, overwrite=overwrite)


def test_a_record_without_a_configuration_is_refused(out: Output) -> None:
    out.write_bytes("job.json", json.dumps({"versions": {"zsfuse_ray": "0"}}).encode())
    assert "job.json exists, but no job wrote it" in refusal(out)
