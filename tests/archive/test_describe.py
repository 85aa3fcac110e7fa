"""Prompts whose embeddings cannot tell the labels apart are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zsfuse_ray.archive.describe import embed_bank
from zsfuse_ray.config.label import LabellerOptions
from zsfuse_ray.config.options import load_config
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec

DIM = 16


@pytest.fixture(scope="module")
def mini():
    return load(parse_spec("pooled-alm:mini", "alm"))


def bank_of(model, *labels: str, **options) -> np.ndarray:
    config, _ = load_config(LabellerOptions, "mini", labels=labels, **options)
    return embed_bank(model, config.labels, config)[0]


def refused(model, message: str, *labels: str, **options) -> str:
    with pytest.raises(InputError, match=message) as caught:
        bank_of(model, *labels, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        ("злой", "счастливый", "грустный"),
        ("愤怒", "快乐", "悲伤"),
        ("غاضب", "سعيد"),
        ("חרדה", "שמחה"),
        ("fâché", "fache"),  # the tokenizer drops accents
    ],
)
@pytest.mark.parametrize("options", [{}, {"text_repeats": (1, 3)}, {"words": 3}, {"ensemble": "logit"}])
def test_labels_that_the_text_model_cannot_read_are_refused(mini, labels, options) -> None:
    message = refused(mini, "cannot tell the labels .* apart", *labels, **options)
    assert all(f'"{label}"' in message for label in labels)
    assert "or use --alm none" in message


def test_only_the_labels_that_are_alike_are_named(mini) -> None:
    message = refused(mini, "cannot tell", "angry", "怒", "sad", "悲")
    assert '"怒", "悲"' in message
    assert "angry" not in message


def test_known_words_are_accepted(mini) -> None:
    every = ("angry", "bored", "calm", "contempt", "disgust", "excited", "fearful", "happy", "sad")
    assert bank_of(mini, *every).shape[2] == len(every)
    bank_of(mini, "happy", "very happy")
    bank_of(mini, "wütend", "traurig", "fröhlich")  # of known pieces; a warning names them


@pytest.mark.parametrize("family", ["clap", "dual"])
def test_random_weights_are_accepted(family: str) -> None:
    model = load(parse_spec(f"{family}:untrained", "alm"))
    bank_of(model, "angry", "bored", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")


def fake(change, cut: bool = False) -> SimpleNamespace:
    """An ALM whose text embeddings are random, and then changed; cut: whether it truncates the prompts."""

    def embed_text(texts: list[str]) -> tuple[torch.Tensor, list[bool]]:
        rows = torch.randn(len(texts), DIM, generator=torch.Generator().manual_seed(0))
        return change(torch.nn.functional.normalize(rows, dim=-1)), [cut] * len(texts)

    return SimpleNamespace(embed_text=embed_text, dim=DIM)


def nearly_equal(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows[:1] + 1e-4 * rows, dim=-1)


def with_value(value: float):
    def change(rows: torch.Tensor) -> torch.Tensor:
        rows[-1, 3] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nearly_equal, 'cannot tell the labels "happy", "sad" apart'),
        (with_value(float("nan")), "are not finite"),
        (with_value(float("inf")), "are not finite"),
        (lambda rows: 0 * rows, "must have length 1; one has 0"),
        (lambda rows: 7 * rows, "must have length 1; one has 7"),
        (lambda rows: rows[:-1], r"have shape \(\d+, 16\), expected \(\d+, 16\)"),
        (lambda rows: rows[:, :4], r"have shape \(\d+, 4\), expected \(\d+, 16\)"),
    ],
)
def test_embeddings_that_cannot_be_right_are_refused(change, message: str) -> None:
    refused(fake(change), message, "happy", "sad")


def test_half_precision_embeddings_are_accepted() -> None:
    assert bank_of(fake(lambda rows: rows.bfloat16()), "happy", "sad").dtype == np.float32


def test_prompts_that_are_cut_before_the_label_are_refused() -> None:
    message = refused(fake(nearly_equal, cut=True), "34 prompts are cut", "happy", "sad")
    assert "shorten --templates" in message
