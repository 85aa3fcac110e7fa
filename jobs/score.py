"""``zsfuse score`` as a script, for ``ray job submit -- python jobs/score.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["score", *sys.argv[1:]])
