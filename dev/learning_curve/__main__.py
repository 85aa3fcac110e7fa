"""When does fusion with an audio-language model pay? UA by number of labelled speakers, and by repetition.

    python -m dev.learning_curve --corpora corpora --vectors build --output docs

Run it from the root of the repository. The folder of corpora contains ravdess, emodb and nemo, each in a
folder of its name. For each of them, an ALM and a classifier are trained on the other two, on vectors of the
shipped trunk; then a specialist is trained on 1, 2, 4 and all but the tested speakers, in ten draws, and
fused with either. Writes when_it_pays.json and when_it_pays.png, and prints the tables of when_it_pays.md.

The vectors take half an hour on one core and are kept in the folder of --vectors; the rest takes another.
"""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from dev.learning_curve.options import LearningCurveConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.process import run_job


def main(argv: list[str]) -> int:
    """Run the command line; returns its exit code."""
    config, _ = parse(LearningCurveConfig, argv, __doc__ or "")
    # lazy imports: torch only after a valid command line
    from dev.learning_curve.amplification import grid
    from dev.learning_curve.curve import curve, draw
    from dev.learning_curve.material import targets
    from dev.learning_curve.tables import figure, tables
    from zsfuse_ray.reporting.canvas import image

    found, made = {}, targets(config)
    with ProcessPoolExecutor(config.processes, multiprocessing.get_context("spawn")) as pool:
        running = {
            name: [pool.submit(draw, target, n, config.seed) for n in range(config.draws)]
            for name, target in made.items()
        }
        draws = {name: [one.result() for one in of_corpus] for name, of_corpus in running.items()}
    for name, target in made.items():
        found[name] = {
            "clips": len(target.targets),
            "clips_of_others": target.clips_of_others,
            "labels": list(target.labels),
            "unknown_to_others": [
                label for label, known in zip(target.labels, target.known, strict=True) if not known
            ],
            "curve": curve(target, draws[name], config.resamples),
            "amplification": grid(target.repeated, len(target.labels), config.resamples),
            "repeated_clips": len(target.repeated.targets),
        }
    result = {"draws": config.draws, "per_speaker": config.per_speaker, "seed": config.seed, "corpora": found}
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "when_it_pays.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    (out / "when_it_pays.png").write_bytes(image(figure(result), "png"))
    print(tables(result))
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
