"""Build the offline default anew: text encoder, specialist and ALM, their figures and cards.

    python -m dev.mini --corpora corpora --output build

It runs from the root of the repository and needs the extra distil (pip install -e ".[distil]"). The folder of
corpora holds ravdess, emodb and nemo, each in a folder of its name. It takes some two hours on a core; faster
side by side:

    taskset -c 0 python -m dev.mini --corpora corpora --output build --parts specialist
    taskset -c 1 python -m dev.mini --corpora corpora --output build --parts text,alm
    python -m dev.mini --corpora corpora --output build --parts figures,install

The part install copies the models into the package. With --leave-out emodb a copy is trained without that
corpus, and measured on all its speakers: zero-shot, but for the fusion weight, which is chosen on other
speakers of it (and the SVM, which is trained on them).
"""

import sys
from pathlib import Path

from dev.mini.options import MiniConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.process import run_job


def main(argv: list[str]) -> int:
    """Run the command line; returns its exit code."""
    config, _ = parse(MiniConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from dev.mini.recipe import install, measure, train_parts
    from zsfuse_ray.models.checkpoints.find import WEIGHTS

    train_parts(config)
    if "figures" in config.parts:
        measure(config)
    if "install" in config.parts:
        install(Path(config.output), WEIGHTS)
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
