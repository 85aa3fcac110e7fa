"""Checkpoint folders that are derived on this machine and kept until it is restarted."""

import os
import shutil
import tempfile
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any


def written_once(name: str, write: Callable[[Path], Any]) -> Path:
    """Return the folder of this name, written on first use; the name identifies its content.

    Safe for concurrent processes: each writes its own folder, and the first rename wins.
    """
    cache = Path(tempfile.gettempdir()) / f"zsfuse_ray-{getuser()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    folder = cache / name
    if not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=cache))
        write(fresh)
        try:
            os.rename(fresh, folder)
        except OSError:
            shutil.rmtree(fresh)
            if not folder.is_dir():
                raise
    return folder
