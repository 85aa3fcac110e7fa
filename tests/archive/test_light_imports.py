"""A driver that lists, plans and labels loads neither torch nor transformers: 700 MB and seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pipeline", "elsewhere", "label"])
def test_what_drives_a_run_loads_no_torch(module: str) -> None:
    code = f"import sys, zsfuse_ray.archive.{module}; print(*{{'torch', 'transformers'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
