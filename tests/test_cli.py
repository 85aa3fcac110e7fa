"""The command zsfuse with all its verbs, and the equivalent scripts in jobs/."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from zsfuse_ray import __version__
from zsfuse_ray.cli import VERBS, run

ROOT = Path(__file__).parents[1]


def outcome(capsys: pytest.CaptureFixture, *argv: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(list(argv))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(capsys: pytest.CaptureFixture, argv: list[str]) -> None:
    code, out, err = outcome(capsys, *argv)
    assert (code, err) == (0, "")
    assert re.findall(r"^  (\w+)  +[A-Z]", out, re.M) == list(VERBS)
    assert "\n    zsfuse score --input demo --output out\n" in out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_starts_with_its_usage(capsys: pytest.CaptureFixture, verb: str) -> None:
    code, out, _ = outcome(capsys, verb, "--help")
    assert code == 0
    assert out.startswith(f"usage: zsfuse {verb} ")
    assert f"\n    zsfuse {verb} " in out
    assert ("\n  --output F" in out) == (verb != "label")  # label prints


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert outcome(capsys, "--version") == (0, f"zsfuse_ray {__version__}\n", "")


def test_an_unknown_verb_is_refused_with_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert outcome(capsys, "scor", "--input", "demo") == (
        2,
        "",
        'error: zsfuse scor: no such verb (did you mean "score"?)\n',
    )


def test_there_is_a_script_for_every_verb() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_runs_its_verb(verb: str, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / f"{verb}.py"), run_name="__main__")
    assert (ended.value.code or 0) == 0
    assert capsys.readouterr().out.startswith(f"usage: zsfuse {verb} ")


def test_the_package_runs_as_a_module_and_as_an_installed_command() -> None:
    commands = [[sys.executable, "-m", "zsfuse_ray"], [str(Path(sys.executable).parent / "zsfuse")]]
    for command in commands:
        done = subprocess.run([*command, "score"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
