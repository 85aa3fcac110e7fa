"""The job as a user runs it."""

import json
from pathlib import Path

import pytest

from zsfuse_ray import cli

JOB = Path(__file__).parents[2] / "jobs" / "benchmark.py"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(["benchmark", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_decoding_and_encoding_of_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run("--parts", "decode,encode", "--repeats", "2", "--output", tmp_path / "out") == 0
    message = capsys.readouterr().out
    assert message == (tmp_path / "out" / "benchmark.md").read_text()
    result = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert {part: len(figures) for part, figures in result["figures"].items()} == {"decode": 3, "encode": 2}
    for figures in result["figures"].values():
        for figure in figures:
            assert len(figure["values"]) == 2
            assert figure["median"] > 1  # × real time
    assert result["machine"]["cores"] >= 1
    assert set(result["revisions"]) == {"alm", "specialist"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "/no/such/folder"], "/no/such/folder"),
        (["--parts", "search", "--corpus", "ravdess:/no/such/folder"], "/no/such/folder"),
        (["--parts", "search"], "add --corpus ravdess:FOLDER"),
        (["--parts", "speed"], "no part speed"),
        (["--alm", "dual:/no/such/model"], "/no/such/model"),
    ],
)
def test_invalid_input_is_reported_before_measuring(tmp_path: Path, capsys, arguments, message):
    out = tmp_path / "out"
    assert run(*arguments, "--output", out) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out.exists()


def test_another_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "benchmark.json").write_text("{}")
    assert run("--parts", "decode", "--output", tmp_path) == 2
    assert "exists, but zsfuse_ray did not write it" in capsys.readouterr().err
