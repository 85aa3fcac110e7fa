"""The shipped model from a pretrained trunk and corpora: train its heads, evaluate, install."""

import json
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dev.mini.cards import measured, new_card, with_figures
from dev.mini.choices import choose, crossed
from dev.mini.evidence import of_seed
from dev.mini.evidence import write as write_evidence
from dev.mini.heads import Clips, fit, joined
from dev.mini.options import CORPORA, MiniConfig
from dev.mini.text_tower import TextTowerConfig, build
from dev.mini.vectors import captions, encoded, new_network, prompts, set_heads
from dev.mini.words import banks, measure_words
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


@dataclass(frozen=True, eq=False)
class Material:
    """What heads are trained on. table: all clips; split: (n,), that of each encoded clip.

    captions: (n, D) text embeddings by label; bank: (P, labels, D), those of the prompts.
    """

    table: pa.Table
    clips: Clips
    split: NDArray[np.str_]
    trunk: Trunk
    alm: PooledAlm
    captions: dict[str, NDArray[np.float32]]
    bank: NDArray[np.float32]

    @property
    def training(self) -> Clips:
        """All but the test speakers."""
        return self.clips.of(self.split != "test")


def material(config: MiniConfig) -> Material:
    """Load trunk, text encoder and corpora, and encode the clips; InputError without the part text."""
    out = Path(config.output)
    if not (out / "text" / "config.json").exists():
        raise InputError(f"{out}/text: no text encoder there yet; make it with --parts text")
    table = load(sources(config), "mini")
    network, extractor, tokenizer = new_network(config.init, out / "text", label_set(table), HIDDEN)
    trunk = Trunk(network, extractor, torch.float32)
    clips, split = encoded(trunk, table, out / "vectors.npz")
    alm = PooledAlm.of_trunk(trunk, tokenizer)
    return Material(table, clips, split, trunk, alm, captions(alm, clips.labels), prompts(alm, clips.labels))


def train_heads(config: MiniConfig) -> None:
    """Train the heads on all but the test speakers; write the model, its card, and choice.json."""
    out, made = Path(config.output), material(config)
    heads = fit(made.training, made.captions, HIDDEN, config.seed)
    found = crossed(made.training, made.captions, made.bank, HIDDEN, config.seed)
    choice = asdict(choose(made.training, found))
    set_heads(made.trunk.network, heads)
    made.alm.save(out / MODEL, torch.float16)
    (out / MODEL / "README.md").write_text(new_card(made.table, shlex.join(command(config)), config.init))
    (out / "choice.json").write_text(json.dumps(choice, allow_nan=False) + "\n")
    print(f"options of score for {out / MODEL}: {choice}")


def sources(config: MiniConfig) -> tuple[str, ...]:
    """Return the corpora to train on, as sources for ``corpora.load``."""
    return tuple(f"{name}:{config.corpora}/{name}" for name in CORPORA)


def command(config: MiniConfig) -> list[str]:
    """Return the command line that trains the heads, for the card."""
    trunk = Path(config.init).name if Path(config.init).is_dir() else config.init
    words = ["python", "-m", "dev.mini", "--corpora", "corpora", "--output", "build", "--init", trunk]
    return [*words, "--parts", "heads", "--seed", str(config.seed)]


def measure(config: MiniConfig) -> None:
    """Evaluate the model on test speakers; write the figures into figures.json and the card."""
    out = Path(config.output)
    if not (out / "choice.json").exists():
        raise InputError(f"{out}: no heads there yet; train them with --parts heads")
    choice = json.loads((out / "choice.json").read_text())
    options, preset = load_config(
        EvaluateConfig,
        alm=f"pooled-alm:{out}/{MODEL}",
        specialist=f"pooled:{out}/{MODEL}",
        corpus=sources(config),
        splits="mini",
        normalise="none",
        output=f"{out}/figures",
        overwrite=True,
        **choice,
    )
    evaluated = evaluate(options, preset)
    result = evaluated.record
    print(write(evaluated.out, result))
    (out / "figures.json").write_text(json.dumps(measured(result, choice), indent=1, allow_nan=False) + "\n")
    card = out / MODEL / "README.md"
    card.write_text(with_figures(card.read_text(), result))


def assess(config: MiniConfig) -> None:
    """Measure the recipe with several seeds, on held-out speakers and left-out corpora; print the tables."""
    out, made = Path(config.output), material(config)
    every, is_test, names = [made.clips], [made.split == "test"], sorted(CORPORA)
    for source in config.untrained:
        table = load((source,))
        clips, _ = encoded(made.trunk, table, out / f"vectors-{len(names)}.npz")
        every.append(clips.among(made.clips.labels, len(names), every[-1].speakers.max() + 1))
        is_test.append(np.zeros(len(clips.targets), bool))
        names.append(table["corpus"][0].as_py())
    clips, of_words, found = joined(every), banks(made.alm, made.clips.labels), {}
    for seed in config.seeds:
        untrained = names[len(CORPORA) :]
        texts = made.captions, made.bank
        found[seed] = of_seed(clips, np.concatenate(is_test), names, untrained, *texts, HIDDEN, seed)
        found[seed]["words"] = measure_words(made.clips, made.split, made.captions, of_words, HIDDEN, seed)
        print(f"seed {seed}: {found[seed]['choice']}", flush=True)
    print(write_evidence(found, out))


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
