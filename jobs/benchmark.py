"""How fast it is here: ratios measured in one run, medians of several repeats.

    python jobs/benchmark.py --output out
    python jobs/benchmark.py --input my_folder --corpus ravdess:FOLDER --output out
    python jobs/benchmark.py --parts search,naive,memory --corpus ravdess:FOLDER --output out

Parts: decode (with voice activity, and each alone), encode (each model alone), end (jobs/score.py as a
process), label (labels from what is encoded, one core; --label-segments
1000000,20000000 shows how time and memory grow), search (jobs/tune.py: every subset of 16 templates, 101
weights, a and b of 1 to 4), naive (what the same search costs one configuration after the other,
extrapolated), memory (a search of 100,000 segments, watched from outside). Prints a table; writes
benchmark.json and benchmark.md.

It measures the machine it runs on, with a Ray of its own, whatever RAY_ADDRESS says. On a machine that does
something else meanwhile look at the ratios, not at the seconds.
"""

import sys
from pathlib import Path

from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, _ = parse(BenchmarkConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from zsfuse_ray.benchmark.run import benchmark

    print(benchmark(config, Path(__file__).resolve().parent), end="")
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
