"""``zsfuse train`` as a script, for ``ray job submit -- python jobs/train.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["train", *sys.argv[1:]])
