"""Label an archive of speech with emotions.

    python jobs/score.py --input demo --output out
    python jobs/score.py --input my_folder --output out --labels angry,happy,sad,neutral

On a Ray cluster, the same command:

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/score.py --input s3://bucket/podcasts --output s3://bucket/labels

Run again after a stop of any kind, it goes on where it was; after the end, it does nothing.
"""

import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(ScoreConfig, argv, __doc__ or "")
    from zsfuse_ray.archive.run import score  # Ray and torch, only for a command line that holds

    return score(config, preset)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
