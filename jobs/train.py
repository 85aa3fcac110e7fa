"""Train a specialist or an audio-language model on labelled clips.

    python jobs/train.py --corpus ravdess:FOLDER,emodb:FOLDER --splits mini --preset finetune \\
        --init microsoft/wavlm-large --output my_specialist
    python jobs/train.py --train train.csv --dev dev.csv --init FOLDER --output my_specialist --workers 4

The output is a folder that jobs/score.py takes as it is: --specialist my_specialist. On a Ray cluster, the
same command, with an output that all machines reach:

    RAY_AUTH_MODE=token ray job submit --working-dir . -- python jobs/train.py \\
        --train s3://bucket/train.csv --init microsoft/wavlm-large --output s3://bucket/my_specialist

Run again after a stop of any kind, it resumes from its last checkpoint; after the end, it does nothing.
"""

import shlex
import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(TrainConfig, argv, __doc__ or "")
    from zsfuse_ray.training.run import train  # Ray and torch, only for a command line that holds

    return train(config, preset, shlex.join(["python", "jobs/train.py", *argv]))


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
