"""Plan an archive: its content, how it is sliced, what it will take; ``jobs/score.py`` starts from it.

Run again, it adds the recordings that are new or changed since.

    python jobs/plan.py --input my_folder --output out
    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/plan.py --input s3://bucket/podcasts --output s3://bucket/labels
"""

import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, _ = parse(PlanConfig, argv, __doc__ or "")
    from zsfuse_ray.archive.pipeline import plan  # Ray and torch, only for a command line that holds

    return plan(config)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
