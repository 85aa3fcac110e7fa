"""Exit codes, messages and signals of a command."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.jobs_support import heed_sigint
from zsfuse_ray.errors import InputError, RunError
from zsfuse_ray.process import run_job

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_exits_with_the_code_of_its_main(code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        run_job(lambda argv: code, [])
    assert caught.value.code == code


def test_an_input_error_prints_one_line_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise InputError(f"no {argv[0]}")

    with pytest.raises(SystemExit) as caught:
        run_job(main, ["milk"])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: no milk\n")


def test_secrets_are_removed_from_messages(capsys: pytest.CaptureFixture[str]) -> None:
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
    ("argv", "message"),
    [
        (["--input", "demo"], "--output is needed"),
        (["--input", "demo", "--output", "out", "--lables", "a,b"], 'did you mean "--labels"?'),
        (["--input", "demo", "--output", "out", "--labels", "sad,happy,sadness"], "name the same emotion"),
        (["--input", "demo", "--output", "out", "--templates", "a happy voice"], "needs exactly one {}"),
    ],
)
def test_a_wrong_command_line_is_refused_before_slow_imports(
    argv: list[str], message: str, tmp_path: Path
) -> None:
    """zsfuse score fails with one line and exit code 2."""
    # -X importtime reports every import on stderr, one per line
    command = [sys.executable, "-X", "importtime", str(ROOT / "jobs/score.py"), *argv]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60)
    imports, messages = [], []
    for line in done.stderr.splitlines():
        (imports if line.startswith("import time:") else messages).append(line)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(messages) == 1
    assert messages[0].startswith("error: ")
    assert message in messages[0]
    modules = {line.rsplit("|", 1)[1].strip() for line in imports}
    assert "zsfuse_ray.config.score" in modules
    assert modules.isdisjoint({"ray", "torch", "transformers", "pyarrow"})
    assert not list(tmp_path.iterdir())


def test_a_run_error_prints_its_lines_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise RunError("s3://k:hunter2@b/a: no answer\nerror: the run stopped")

    with pytest.raises(SystemExit) as caught:
        run_job(main, [])
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "s3://b/a: no answer\nerror: the run stopped\n")


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("out: no space left", "error: out: no space left; stopped; the same command resumes\n"),
        (
            "Traceback\nerror: a task failed",
            "Traceback\nerror: a task failed; stopped; the same command resumes\n",
        ),
    ],
)
def test_a_stopped_run_exits_with_3_and_says_how_to_resume(message: str, printed: str) -> None:
    program = f"""
from zsfuse_ray.errors import Stopped
from zsfuse_ray.process import run_job

def main(argv):
    raise Stopped({message!r})

run_job(main, [])
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", printed)


def test_log_messages_of_the_package_are_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("zsfuse_ray.some.module")

    def main(argv: list[str]) -> int:
        log.info("3 new")
        log.debug("detail")
        return 0

    with pytest.raises(SystemExit):
        run_job(main, [])
    assert capsys.readouterr() == ("", "3 new\n")
    log.info("not shown outside a command")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_prints_one_line_and_exits_with_its_code(number: signal.Signals, code: int) -> None:
    """Even inside a `try` that catches Exception, and with another thread still running."""
    program = """
import threading, time
from zsfuse_ray.process import run_job

def main(argv):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass

run_job(main, [])
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_sigint,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (code, "", "stopped; the same command resumes\n")
