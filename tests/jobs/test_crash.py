"""A file that crashes the process that decodes it."""

import os
from pathlib import Path

from tests.jobs.jobs_support import ROOT, run_process, speech, tables, write_wav

# A sitecustomize module, which Python runs at every start: in Ray's workers, and in their children that decode,
# opening one file is a crash.
DEADLY = """
import builtins, os, signal, sys
if any("default_worker" in word for word in sys.orig_argv):
    harmless = builtins.open
    def deadly(path, *arguments, **options):
        if str(path).endswith("deadly.wav"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return harmless(path, *arguments, **options)
    builtins.open = deadly
"""


def test_a_file_that_crashes_its_process_is_rejected(tmp_path: Path):
    for n in range(3):
        write_wav(tmp_path / "in" / f"{n}.wav", speech(8, seed=n))
    write_wav(tmp_path / "in" / "deadly.wav", speech(8))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEADLY)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}
    environment.pop("RAY_ADDRESS", None)
    done = run_process("score", "--input", tmp_path / "in", "--output", tmp_path / "out", env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    found = tables(tmp_path / "out")
    (reject,) = found["rejects"].to_dict("records")
    assert reject["recording_uri"].endswith("deadly.wav")
    assert (reject["stage"], reject["reason"]) == ("decode", "crashed")
    assert found["segments"].recording_uri.nunique() == 3
