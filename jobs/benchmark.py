"""``zsfuse benchmark`` as a script, for ``ray job submit -- python jobs/benchmark.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["benchmark", *sys.argv[1:]])
