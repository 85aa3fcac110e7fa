"""``zsfuse tune`` as a script, for ``ray job submit -- python jobs/tune.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["tune", *sys.argv[1:]])
