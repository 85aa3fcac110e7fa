"""How good it is: every system of the paper's table, on labelled clips.

    python jobs/evaluate.py --corpus ravdess:FOLDER,emodb:FOLDER --splits mini --output out
    python jobs/evaluate.py --input my_clips.csv --alm clap:FOLDER --specialist classifier:FOLDER --output out

A manifest has the columns uri, emotion and speaker, and where known start_s, end_s, split (train, dev, test)
or fold. Everything is chosen on dev speakers and reported on test speakers; without splits, on folds by
speaker. Writes evaluation.md, evaluation.json, figures/, predictions.parquet and rejects/.

On a Ray cluster, the same command:

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/evaluate.py --input s3://bucket/clips.csv --output s3://bucket/evaluation
"""

import sys

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(EvaluateConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from zsfuse_ray.experiments.clips import exit_code
    from zsfuse_ray.experiments.evaluate import evaluate
    from zsfuse_ray.reporting.evaluation import write

    out, result = evaluate(config, preset)
    print(write(out, result))
    return exit_code([table["protocol"] for table in result["corpora"].values()], config.max_reject_rate)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
