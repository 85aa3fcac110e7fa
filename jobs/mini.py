"""Build the offline default anew: text encoder, specialist and ALM, their figures and cards.

    python jobs/mini.py --corpora corpora --output build

It needs the extra distil (pip install -e ".[distil]"). The folder of corpora holds ravdess, emodb and nemo,
each in a folder of its name. It takes some two hours on a core; faster side by side:

    taskset -c 0 python jobs/mini.py --corpora corpora --output build --parts specialist
    taskset -c 1 python jobs/mini.py --corpora corpora --output build --parts text,alm
    python jobs/mini.py --corpora corpora --output build --parts figures,install

The part install copies the models into the package. With --leave-out emodb a copy is trained without that
corpus, and measured on all its speakers: zero-shot, but for the fusion weight, which is chosen on other
speakers of it (and the SVM, which is trained on them).
"""

import json
import sys
from pathlib import Path

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.mini import MiniConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.errors import run_job


def main(argv: list[str]) -> int:
    """Run the job; returns its exit code."""
    config, _ = parse(MiniConfig, argv, __doc__ or "")
    # Ray and torch, only for a command line that holds
    from zsfuse_ray.models.checkpoints.find import WEIGHTS
    from zsfuse_ray.training.mini import install, train_parts

    train_parts(config)
    out = Path(config.output)
    if "figures" in config.parts:
        measure(config, out)
    if "install" in config.parts:
        install(out, WEIGHTS)
    return 0


def measure(config: MiniConfig, out: Path) -> None:
    """Evaluate both models on speakers (or corpora) that they were not trained on; tell it in their cards."""
    from zsfuse_ray.evaluation.run import evaluate
    from zsfuse_ray.reporting.evaluation import write
    from zsfuse_ray.reporting.weights import measured, with_figures
    from zsfuse_ray.training.mini import sources

    argv = ["--alm", f"{out}/alm", "--specialist", f"{out}/specialist", "--overwrite"]
    argv += ["--corpus", ",".join(sources(config, tested=True)), "--output", f"{out}/figures"]
    if not config.leave_out:  # else all of its speakers are unheard, and each is tested
        argv += ["--splits", "mini"]
    options, _ = parse(EvaluateConfig, argv, "")
    where, result = evaluate(options, "")
    print(write(where, result))
    if not config.leave_out:
        (out / "figures.json").write_text(json.dumps(measured(result), indent=1) + "\n")
        for part in ("alm", "specialist"):
            card = out / part / "README.md"
            card.write_text(with_figures(card.read_text(), result))


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
