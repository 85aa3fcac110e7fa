"""``zsfuse reproduce`` as a script, for ``ray job submit -- python jobs/reproduce.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["reproduce", *sys.argv[1:]])
