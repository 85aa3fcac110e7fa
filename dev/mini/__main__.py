"""Rebuild the model of the offline default: text encoder, heads on a frozen trunk, metrics and card.

    python -m dev.mini --corpora corpora --output build --init openai/whisper-base

Run it from the root of the repository; it needs the extra distil (pip install -e ".[distil]"). The folder
of corpora contains ravdess, emodb and nemo, each in a folder of its name. --init is a Whisper model or its
encoder. On one core the text encoder takes an hour, the vectors of the corpora ten minutes, the heads
five; what is in the output folder is kept:

    python -m dev.mini --corpora corpora --output build --parts heads,figures,install

The part install copies the model into the package. The part evidence measures the recipe: with several
seeds, on test speakers, on each corpus with heads that were not trained on it, and on corpora that are
measured only (an hour on one core):

    python -m dev.mini --corpora corpora --output build --parts evidence --untrained metadata:corpora/ased
"""

import sys
from pathlib import Path

from dev.mini.options import MiniConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.process import run_job


def main(argv: list[str]) -> int:
    """Run the command line; returns its exit code."""
    config, _ = parse(MiniConfig, argv, __doc__ or "")
    # lazy imports: Ray and torch only after a valid command line
    from dev.mini.recipe import assess, install, measure, train_parts
    from zsfuse_ray.models.checkpoints.find import WEIGHTS

    train_parts(config)
    if "figures" in config.parts:
        measure(config)
    if "evidence" in config.parts:
        assess(config)
    if "install" in config.parts:
        install(Path(config.output), WEIGHTS)
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
