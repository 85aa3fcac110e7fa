import subprocess
import sys

import psutil

from zsfuse_ray.benchmark.memory import Task, Watched, end, tree_bytes

CHILD = "import time; kept = b'x' * 200_000_000; print('ready', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_children_count_and_end_with_the_process():
    process = psutil.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        assert 200e6 < tree_bytes(process) < 300e6
    finally:
        (child,) = process.children()
        end(process)
    assert not process.is_running()
    assert not child.is_running()
    assert tree_bytes(process) == 0


def test_quarters_of_the_time():
    seconds = (0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    gigabytes = (9.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.5, 4.0, 4.2)
    seen = Watched(Task(1, 2, 1), seconds, gigabytes, None)
    assert (seen.quarter(1), seen.quarter(3)) == (4.0, 4.5)
