"""``zsfuse train`` as a script, for ``ray job submit -- python jobs/train.py``."""

import sys

from zsfuse_ray.cli import train as main
from zsfuse_ray.errors import run_job

if __name__ == "__main__":
    run_job(main, sys.argv[1:])
