"""Versions of the software that a run used."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from zsfuse_ray import __version__

PACKAGES = ("ray", "torch", "torchaudio", "transformers", "pyarrow", "av", "silero-vad", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results, by name."""
    packages = {name.replace("-", "_"): version(name) for name in PACKAGES}
    return {"zsfuse_ray": __version__, "python": platform.python_version(), **packages}


def git_revision() -> str | None:
    """Commit of the checkout the code runs from, None if it is not a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or installed from a wheel
    return done.stdout.strip()
