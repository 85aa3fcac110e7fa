"""The shipped model from a pretrained trunk and corpora: train its heads, evaluate, install."""

import json
import shlex
import shutil
from pathlib import Path

import torch

from dev.mini.cards import measured, new_card, with_figures
from dev.mini.heads import fit
from dev.mini.options import CORPORA, MiniConfig
from dev.mini.text_tower import TextTowerConfig, build
from dev.mini.vectors import captions, encoded, new_network, set_heads
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import load_config
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.load import load
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.evaluate import evaluate
from zsfuse_ray.models.families.pooled import PooledAlm, Trunk
from zsfuse_ray.reporting.evaluation import write

MODEL = "mini"
HIDDEN = 256  # of the audio projection


def train_parts(config: MiniConfig) -> None:
    """Make the parts text and heads in the output folder, if requested; an existing text encoder is kept."""
    out = Path(config.output)
    if "text" in config.parts and not (out / "text" / "config.json").exists():
        build(TextTowerConfig(output=str(out / "text"), seed=config.seed))
    if "heads" in config.parts:
        train_heads(config)


def train_heads(config: MiniConfig) -> None:
    """Train the heads on all but the test speakers of the corpora; write the model and its card."""
    out = Path(config.output)
    if not (out / "text" / "config.json").exists():
        raise InputError(f"{out}/text: no text encoder there yet; make it with --parts text")
    clips = load(sources(config), "mini")
    network, extractor, tokenizer = new_network(config.init, out / "text", label_set(clips), HIDDEN)
    trunk = Trunk(network, extractor, torch.float32)
    name = "-".join(("vectors", *(source.partition(":")[0] for source in sources(config))))
    values, split = encoded(trunk, clips, out / f"{name}.npz")
    alm = PooledAlm.of_trunk(trunk, tokenizer)
    set_heads(network, fit(values.of(split != "test"), captions(alm, values.labels), HIDDEN, config.seed))
    alm.save(out / MODEL, torch.float16)
    (out / MODEL / "README.md").write_text(new_card(clips, shlex.join(command(config)), config.init))


def sources(config: MiniConfig, tested: bool = False) -> tuple[str, ...]:
    """Return the corpora to train on, as sources for ``corpora.load``; tested: those to evaluate on.

    If corpora are left out of training, only those are evaluated.
    """
    trained = tuple(name for name in CORPORA if name not in config.leave_out)
    return tuple(f"{name}:{config.corpora}/{name}" for name in ((tested and config.leave_out) or trained))


def command(config: MiniConfig) -> list[str]:
    """Return the command line that trains the heads, for the card."""
    trunk = Path(config.init).name if Path(config.init).is_dir() else config.init
    words = ["python", "-m", "dev.mini", "--corpora", "corpora", "--output", "build", "--init", trunk]
    words += ["--parts", "heads", "--seed", str(config.seed)]
    return [*words, "--leave-out", ",".join(config.leave_out)] if config.leave_out else words


def measure(config: MiniConfig) -> None:
    """Evaluate the model on test speakers, or on left-out corpora; write the figures into its card."""
    out = Path(config.output)
    options, preset = load_config(
        EvaluateConfig,
        alm=f"pooled-alm:{out}/{MODEL}",
        specialist=f"pooled:{out}/{MODEL}",
        corpus=sources(config, tested=True),
        splits=None if config.leave_out else "mini",  # what was left out is tested on all its speakers
        output=f"{out}/figures",
        overwrite=True,
    )
    evaluated = evaluate(options, preset)
    result = evaluated.record
    print(write(evaluated.out, result))
    if not config.leave_out:
        (out / "figures.json").write_text(json.dumps(measured(result), indent=1) + "\n")
        card = out / MODEL / "README.md"
        card.write_text(with_figures(card.read_text(), result))


def install(out: Path, weights: Path) -> None:
    """Copy the model into the folder of shipped weights, with its figures."""
    if not (out / "figures.json").exists():
        raise InputError(f"{out}: the model is not evaluated yet; run --parts figures before install")
    target = weights / MODEL
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in ("*config.json", "model.safetensors", "tokenizer.json", "README.md"):
        for file in (out / MODEL).glob(pattern):
            shutil.copyfile(file, target / file.name)
    shutil.copyfile(out / "figures.json", weights / "figures.json")
