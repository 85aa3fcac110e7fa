"""``python -m zsfuse_ray VERB``: the same as ``zsfuse VERB``."""

from zsfuse_ray.cli import run

if __name__ == "__main__":
    run()
