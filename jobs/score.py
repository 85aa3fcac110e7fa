"""Label an archive of speech with emotions.

    python jobs/score.py --input demo --output out
    python jobs/score.py --input my_folder --output out --labels angry,happy,sad,neutral
    python jobs/score.py --embeddings table --output out --text-repeats 2 --fusion loglinear --weight 0.3
    python jobs/score.py --list-models

Run again with other labels, prompts, temperature, fusion or weight, it labels what it has encoded again, in
seconds; on an archive that has grown it encodes and labels the new and changed recordings alone.

--input and --embeddings exclude each other: the output of jobs/embed.py, or of score, can be labelled
elsewhere, with neither audio nor GPU.

On a Ray cluster, the same command:

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/score.py --input s3://bucket/podcasts --output s3://bucket/labels

Run again after a stop of any kind, it resumes; after the end, it does nothing.
"""

import sys

from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    if "--list-models" in argv:
        from zsfuse_ray.models.about import listed
        from zsfuse_ray.models.catalog import MODELS

        print(listed(MODELS))
        return 0
    config, preset = parse(ScoreConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    if config.embeddings is None:
        from zsfuse_ray.archive.pipeline import score

        return score(config, preset)
    from zsfuse_ray.archive.elsewhere import label_table

    return label_table(config, preset)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
