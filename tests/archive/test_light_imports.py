"""A driver does not import torch or transformers, which take 700 MB and seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pipeline", "elsewhere", "label"])
def test_driver_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, zsfuse_ray.archive.{module}; print(*{{'torch', 'transformers'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
