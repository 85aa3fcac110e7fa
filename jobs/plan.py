"""``zsfuse plan`` as a script, for ``ray job submit -- python jobs/plan.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["plan", *sys.argv[1:]])
