"""``zsfuse embed`` as a script, for ``ray job submit -- python jobs/embed.py``."""

import sys

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run(["embed", *sys.argv[1:]])
