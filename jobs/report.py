"""``zsfuse report`` as a script, for ``ray job submit -- python jobs/report.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["report", *sys.argv[1:]])
