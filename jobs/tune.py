"""Find the prompts, the amplification and the fusion that are best on your labelled clips.

    python jobs/tune.py --corpus ravdess:FOLDER --output out
    python jobs/tune.py --input my_clips.csv --alm clap:FOLDER --specialist classifier:FOLDER --output out

A manifest has the columns uri, emotion and speaker, and where known start_s, end_s, split or fold. The clips
are encoded once; then every subset of the templates is tried with 101 fusion weights, for all copies of audio
and text, ensemble rules, fusion rules and temperatures. The choice is measured on speakers who had no part
in it. Writes tuned.yaml, which score and evaluate take as --tuned; tune.md, tune.json and figures/;
trials/ with every subset of every block, best/ with the best of each number of templates and each weight.

On a Ray cluster, the same command (its dashboard, or tensorboard --logdir out/ray_tune, shows the trials):

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/tune.py --input s3://bucket/clips.csv --output s3://bucket/tuning

Run again after a stop of any kind, it resumes; after the end, it does nothing.
"""

import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(TuneConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from zsfuse_ray.experiments.clips import exit_code
    from zsfuse_ray.experiments.tune.run import tune
    from zsfuse_ray.reporting.tuning import write

    out, result = tune(config, preset)
    print(write(out, result))
    return exit_code([result["clips"]], config.max_reject_rate)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
