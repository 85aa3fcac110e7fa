"""Build the shipped models from their corpora: train the parts, evaluate both models, install them."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import ray

from dev.mini.cards import measured, with_figures
from dev.mini.options import CORPORA, MiniConfig
from dev.mini.starts import write_audio_start, write_specialist_start
from dev.mini.text_tower import TextTowerConfig, build
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import load_config
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.corpora.load import load
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.evaluate import evaluate
from zsfuse_ray.reporting.evaluation import write
from zsfuse_ray.training.run import RUN, train

RECIPES = Path(__file__).parent  # specialist.yaml and alm.yaml


def train_parts(config: MiniConfig) -> None:
    """Build the text, specialist and alm of ``config.parts`` in the output folder; existing ones are kept."""
    out = Path(config.output)
    if "text" in config.parts and not (out / "text" / "config.json").exists():
        build(TextTowerConfig(output=str(out / "text"), seed=config.seed))
    if "specialist" in config.parts:
        start = out / "start_specialist"
        if not (out / "specialist" / RUN).exists():
            write_specialist_start(start, load(sources(config), "mini"), config.seed)
        _train(config, "specialist", init=str(start))
    if "alm" in config.parts:
        if not (out / "text" / "config.json").exists():
            raise InputError(f"{out}/text: no text encoder; build it first with --parts text")
        write_audio_start(out / "start_alm")
        _train(config, "alm", init=str(out / "start_alm"), text=str(out / "text"))


def sources(config: MiniConfig, tested: bool = False) -> tuple[str, ...]:
    """Return the corpora to train on, as sources for ``corpora.load``; tested: those to evaluate on.

    If corpora are left out of training, only those are evaluated.
    """
    trained = tuple(name for name in CORPORA if name not in config.leave_out)
    return tuple(f"{name}:{config.corpora}/{name}" for name in ((tested and config.leave_out) or trained))


def _train(config: MiniConfig, task: str, **start: str) -> None:
    options: dict[str, Any] = {**start, "corpus": sources(config), "splits": "mini"}
    options |= {"seed": config.seed, "output": f"{config.output}/{task}"}
    if config.epochs:
        options["epochs"] = config.epochs
    training, preset = load_config(TrainConfig, config_file=RECIPES / f"{task}.yaml", **options)
    try:
        train(training, preset, shlex.join(command(config, task)))
    finally:
        ray.shutdown()


def command(config: MiniConfig, part: str) -> list[str]:
    """Return the command line that builds only this part, for its card."""
    words = ["python", "-m", "dev.mini", "--corpora", config.corpora, "--output", config.output]
    words += ["--parts", part, "--seed", str(config.seed)]
    if config.leave_out:
        words += ["--leave-out", ",".join(config.leave_out)]
    if config.epochs:
        words += ["--epochs", str(config.epochs)]
    return words


def measure(config: MiniConfig) -> None:
    """Evaluate both models on held-out speakers or corpora; write the metrics to their cards."""
    out = Path(config.output)
    options, preset = load_config(
        EvaluateConfig,
        alm=f"{out}/alm",
        specialist=f"{out}/specialist",
        corpus=sources(config, tested=True),
        splits=None if config.leave_out else "mini",  # left-out corpora are tested on all speakers
        output=f"{out}/figures",
        overwrite=True,
    )
    evaluated = evaluate(options, preset)
    result = evaluated.record
    print(write(evaluated.out, result))
    if not config.leave_out:
        (out / "figures.json").write_text(json.dumps(measured(result), indent=1) + "\n")
        for part in ("alm", "specialist"):
            card = out / part / "README.md"
            card.write_text(with_figures(card.read_text(), result))


def install(out: Path, weights: Path) -> None:
    """Copy the files of both models that score loads (no checkpoints or curves) to the shipped weights."""
    if not (out / "figures.json").exists():
        raise InputError(f"{out}: the models are not evaluated yet; run --parts figures before install")
    for part in ("specialist", "alm"):
        source, target = out / part, weights / f"mini-{part}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for pattern in ("*config.json", "model.safetensors", "tokenizer.json", "README.md"):
            for file in source.glob(pattern):
                shutil.copyfile(file, target / file.name)
    shutil.copyfile(out / "figures.json", weights / "figures.json")
