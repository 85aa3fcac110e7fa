import os
import subprocess
import sys
from pathlib import Path

import pytest

from zsfuse_ray.errors import InputError, nearest, redact, run_job

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "valid", "said"),
    [
        ("weigth", ["weight", "words"], ' (did you mean "weight"?)'),
        ("WEIGHT", ["weight", "words"], ' (did you mean "weight"?)'),
        ("zzz", ["weight", "alm"], " (one of alm, weight)"),
        ("zzz", iter({"b": 1, "a": 2}), " (one of a, b)"),
    ],
)
def test_nearest(name: str, valid: list[str], said: str) -> None:
    assert nearest(name, valid) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a b.wav", "s3://bucket/a b.wav"),
        ("https://me:pa@ss@host/a.wav", "https://host/a.wav"),
        (
            "get https://h/a?X-Amz-Credential=AK%2F1&part=2: 403",
            "get https://h/a?X-Amz-Credential=***&part=2: 403",
        ),
        ("https://h/a?sv=2020&sig=a%2Bb%3D&episode=3", "https://h/a?sv=***&sig=***&episode=3"),
        (
            "(https://h/a?api_key=1&access_token=2&Password=3)",
            "(https://h/a?api_key=***&access_token=***&Password=***)",
        ),
        ("mail me@host about /folder/a@b.wav", "mail me@host about /folder/a@b.wav"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_exits_with_the_code_of_its_main(code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        run_job(lambda argv: code, [])
    assert caught.value.code == code


def test_an_input_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise InputError(f"no {argv[0]}")

    with pytest.raises(SystemExit) as caught:
        run_job(main, ["milk"])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: no milk\n")


def test_a_message_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise InputError("s3://key:hunter2@bucket/a: no such folder")

    with pytest.raises(SystemExit):
        run_job(main, [])
    assert capsys.readouterr().err == "error: s3://bucket/a: no such folder\n"


def test_another_error_is_not_hidden() -> None:
    def main(argv: list[str]) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_job(main, [])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--input", "demo"], "--output is needed"),
        (["--input", "demo", "--output", "out", "--lables", "a,b"], 'did you mean "--labels"?'),
        (["--input", "demo", "--output", "out", "--labels", "sad,happy,sadness"], "name the same emotion"),
        (["--input", "demo", "--output", "out", "--templates", "a happy voice"], "needs exactly one {}"),
    ],
)
def test_a_wrong_command_line_costs_neither_ray_nor_torch(argv: list[str], said: str, tmp_path: Path) -> None:
    """zsfuse score refuses it in one line, exit code 2, before it imports anything that takes seconds."""
    # -X importtime reports every import on stderr, in lines of its own
    command = [sys.executable, "-X", "importtime", str(ROOT / "jobs/score.py"), *argv]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60)
    imports, told = [], []
    for line in done.stderr.splitlines():
        (imports if line.startswith("import time:") else told).append(line)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert said in told[0]
    modules = {line.rsplit("|", 1)[1].strip() for line in imports}
    assert "zsfuse_ray.config.score" in modules
    assert modules.isdisjoint({"ray", "torch", "transformers", "pyarrow"})
    assert not list(tmp_path.iterdir())
