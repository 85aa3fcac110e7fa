"""``zsfuse benchmark`` as a script, for ``ray job submit -- python jobs/benchmark.py``."""

import sys

from zsfuse_ray.cli import benchmark as main
from zsfuse_ray.errors import run_job

if __name__ == "__main__":
    run_job(main, sys.argv[1:])
