"""From labelled segments of a table to a fusion and to relabelled tables, without audio or Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

from tests.archive.encoded_folders import BOTH, DIM, LABELS, MODELS, VECTOR_DIM, Small, small_archive
from tests.training.test_head import corrections, rows_of
from zsfuse_ray.archive import describe
from zsfuse_ray.archive.elsewhere import label_table
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.table import read_table
from zsfuse_ray.config.fusion import read_fusion
from zsfuse_ray.config.options import build, load_config
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.training.fusion_of_table import FittedFusion, fit_on_table

TEMPLATES = ("{}", "a {} voice")
OWN = ("angry", "sad", "surprised")  # the names of LABELS in corpora


def embedded(text: str) -> np.ndarray:
    row = np.random.default_rng(crc32(text.encode())).normal(size=DIM).astype(np.float32)
    return row / np.linalg.norm(row)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A table whose audio-language model is a stand-in with text embeddings of the table's size."""
    facts = {name: value for name, value in MODELS["alm"].items() if name != "model"}
    alm = SimpleNamespace(kind="alm", trained_on=(), **facts)
    alm.embed_text = lambda texts: (
        torch.tensor(np.array([embedded(t) for t in texts])),
        [False] * len(texts),
    )
    monkeypatch.setattr(describe, "load", lambda spec: alm)
    small = small_archive(tmp_path / "table")
    small.encode(BOTH)
    return small


def labelled(small: Small, name: str, **options: Any) -> Output:
    usual = {"embeddings": small.out.uri, "max_reject_rate": 1.0, "output": f"{small.out.uri}/../{name}"}
    return label_table(load_config(ScoreConfig, None, **(usual | options))[0], "").out


def fitted(small: Small, tmp_path: Path, **options: Any) -> FittedFusion:
    rows = rows_of(labelled(small, "before", labels=LABELS, alm="none"))
    wanted = {n: LABELS[n % 3] for n in range(len(rows))}
    given = {"task": "fusion", "from_table": small.out.uri, "output": str(tmp_path / "my_fusion")}
    given["train"] = corrections(rows, tmp_path / "c.csv", wanted)
    given["templates"] = TEMPLATES
    return fit_on_table(build(TrainConfig, given | options), "zsfuse train …")


@pytest.mark.parametrize(
    "options", [{}, {"scores": "posterior", "per_prompt": True, "audio_repeats": (1, 2)}]
)
def test_labels_are_those_of_the_papers_rule(small: Small, tmp_path: Path, options: dict[str, Any]) -> None:
    """Brute force over the table's own values: layer norms, concatenation, the saved linear layer."""
    result = fitted(small, tmp_path, **options)
    out = labelled(small, "after", fusion=result.out.uri)
    saved = read_fusion(result.out.uri)
    assert saved.options.labels == OWN
    assert out.read_json(RUN)["fusion"] == saved.recorded
    table = read_table(small.out.uri, vectors=True)
    audio = table.audio(options.get("audio_repeats", (1,))).astype(float).mean(axis=1)
    bank = np.array([[embedded(t.format(label)) for label in OWN] for t in TEMPLATES]).astype(float)
    mean = bank.mean(axis=0) / np.linalg.norm(bank.mean(axis=0), axis=1, keepdims=True)
    vectors = table.vectors["specialist"].astype(float)
    own = saved.concat.classifier
    assert own.coef.shape == (3, VECTOR_DIM + (6 if options else 3))
    expected = {}
    for n, segment_id in enumerate(table.segments["segment_id"].to_pylist()):
        scores = 20.0 * mean @ audio[n]
        if options:
            scores = np.concatenate([softmax(20.0 * prompts @ audio[n]) for prompts in bank])
        parts = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in (vectors[n], scores)]
        expected[segment_id] = softmax((own.coef @ np.concatenate(parts) + own.intercept) / own.temperature)
    for row in rows_of(out):
        found = [row[f"p_{label}"] for label in OWN]
        np.testing.assert_allclose(found, expected[row["segment_id"]], atol=1e-5)
        assert row["label"] == OWN[int(np.argmax(found))]


def test_another_fusion_labels_again(small: Small, tmp_path: Path) -> None:
    first = labelled(small, "after", fusion=fitted(small, tmp_path).out.uri).read_json(RUN)
    second = fitted(small, tmp_path, scores="posterior", overwrite=True)
    again = labelled(small, "after", fusion=second.out.uri).read_json(RUN)
    assert first["digest"] != again["digest"]


def test_a_prior_acts_on_the_fused_posterior(small: Small, tmp_path: Path) -> None:
    out = labelled(small, "after", fusion=fitted(small, tmp_path).out.uri, prior="uniform")
    shares = out.read_json(RUN)["prior"]["fused"]["after"]
    np.testing.assert_allclose(list(shares.values()), 1 / 3, atol=5e-3)


def test_the_card_says_what_it_was_fitted_on(small: Small, tmp_path: Path) -> None:
    result = fitted(small, tmp_path)
    card = (tmp_path / "my_fusion" / "README.md").read_text()
    assert "classifier:untrained" in card
    assert "clap:untrained" in card
    assert "not measured: the labels are of" in result.summary
    assert f"--fusion {result.out.uri}" in result.summary


def test_a_fusion_is_not_overwritten_unasked(small: Small, tmp_path: Path) -> None:
    fitted(small, tmp_path)
    with pytest.raises(InputError, match="holds the results of another fusion"):
        fitted(small, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("angry", "bored")}, 'no segment is labelled "bored"'),
        ({"labels": ("angry",)}, "at least two labels"),
        ({"alm": "none"}, "a fusion needs a specialist and an ALM"),
        ({"audio_repeats": (3,)}, "without audio repeats 3"),
    ],
)
def test_what_cannot_be_fitted(small: Small, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(small, tmp_path, **options)


def test_labels_choose_the_segments(small: Small, tmp_path: Path) -> None:
    result = fitted(small, tmp_path, labels=("angry", "sad"))
    assert read_fusion(result.out.uri).options.labels == ("angry", "sad")
    assert set(result.about["fitted_on"]["counts"]) == {"angry", "sad"}
