"""``zsfuse export`` as a script, for ``ray job submit -- python jobs/export.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["export", *sys.argv[1:]])
