"""``zsfuse label`` as a script, for ``ray job submit -- python jobs/label.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["label", *sys.argv[1:]])
