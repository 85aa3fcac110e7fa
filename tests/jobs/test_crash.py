"""A file that crashes the process that decodes it."""

import os
from pathlib import Path

import pytest

from tests.jobs.jobs_support import ROOT, run_process, speech, tables, write_wav

# A sitecustomize module, which Python runs at every start: in Ray's workers, and in their children that
# decode, opening one file is a crash.
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


# A third-party specialist that a long clip kills.
MORTAL = """
import os, signal, torch
from zsfuse_ray.models.about import About
class Loudness:
    kind, labels, vector_dim = "specialist", ("sad", "angry"), 1
    about = About(rate="16 kHz", window="none", dim="1", licence="theirs", checkpoints=())
    sample_rate, window, fill, same_length, licence, revision = 16_000, None, "none", False, "theirs", "7"
    def __init__(self, checkpoint, device="cpu", dtype=torch.float32):
        pass
    def classify(self, clips):
        if any(len(clip) > 5 * 16_000 for clip in clips):
            os.kill(os.getpid(), signal.SIGKILL)
        loud = torch.stack([clip.abs().mean() for clip in clips])[:, None]
        return torch.cat([-loud, loud], dim=1), loud
"""


@pytest.mark.long
def test_a_recording_that_kills_the_encoder_is_rejected(tmp_path: Path):
    for n in range(5):
        write_wav(tmp_path / "in" / f"{n}.wav", speech(9.0 if n == 2 else 3 + n / 10))
    (tmp_path / "site" / "mortal").mkdir(parents=True)
    (tmp_path / "site" / "mortal" / "models.py").write_text(MORTAL)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}
    environment.pop("RAY_ADDRESS", None)
    options = [
        "--vad",
        "none",
        "--alm",
        "none",
        "--specialist",
        "mortal.models:Loudness",
        "--normalise",
        "none",
    ]
    options += ["--labels", "sad,angry", "--max-reject-rate", "1"]
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", *options]
    done = run_process("score", *arguments, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = tables(tmp_path / "out")
    (reject,) = found["rejects"].to_dict("records")
    assert reject["recording_uri"].endswith("2.wav")
    assert (reject["stage"], reject["reason"]) == ("encode", "crashed")
    assert found["segments"].recording_uri.nunique() == 4
