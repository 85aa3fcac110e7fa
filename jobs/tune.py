"""Find the prompts, the amplification and the fusion that are best on your labelled clips.

    python jobs/tune.py --corpus ravdess:FOLDER --output out
    python jobs/tune.py --input my_clips.csv --alm clap:FOLDER --specialist classifier:FOLDER --output out

A manifest has the columns uri, emotion and speaker, and where known start_s, end_s, split or fold. The clips
are heard once; then every subset of the templates is tried with 101 fusion weights, for all copies of audio
and text, ensemble rules, fusion rules and temperatures. What is found is measured on speakers who had no part
in the choice. Writes tuned.yaml, which score and evaluate take as --tuned; tune.md, tune.json and figures/;
trials/ with every subset of every block, best/ with the best of each number of templates and each weight.

On a Ray cluster, the same command (its dashboard, or tensorboard --logdir out/ray_tune, shows the trials):

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/tune.py --input s3://bucket/clips.csv --output s3://bucket/tuning

Run again after a stop of any kind, it goes on where it was; after the end, it does nothing.
"""

import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(TuneConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from zsfuse_ray.reporting.tuning import write
    from zsfuse_ray.tuning.run import tune, verdict

    out, result = tune(config, preset)
    print(write(out, result))
    return verdict(config, result)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
