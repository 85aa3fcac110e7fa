"""Encode an archive once: an embedding table, from which labels follow without audio.

    python jobs/embed.py --input demo --output table
    python jobs/embed.py --input clips.csv --output table --vad none --audio-repeats 1,2,3,4
    python jobs/score.py --embeddings table --output out --labels angry,happy,sad,neutral

Writes encoded/ (the ALM's embedding of each distinct input that repeating the audio gives, the specialist's
logits and vectors), recordings/, rejects/ and run.json. A manifest's own columns, such as emotion, speaker
and split, come along. Run again with another model or more copies of the audio, it encodes just these; on an
archive that has grown, just the new and changed recordings.

On a Ray cluster, the same command:

    RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
        python jobs/embed.py --input s3://bucket/podcasts --output s3://bucket/table

Run again after a stop of any kind, it resumes; after the end, it does nothing.
"""

import sys

from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, preset = parse(EmbedConfig, argv, __doc__ or "")
    from zsfuse_ray.archive.pipeline import embed  # Ray and torch, only for a command line that holds

    return embed(config, preset)


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
