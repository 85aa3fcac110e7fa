"""``zsfuse evaluate`` as a script, for ``ray job submit -- python jobs/evaluate.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["evaluate", *sys.argv[1:]])
