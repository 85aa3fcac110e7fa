"""The folder of a trained fusion: written and read, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from zsfuse_ray.config.fusion import RECORD, WEIGHTS, ModelOf, Prompted, packed, read_fusion
from zsfuse_ray.config.options import load_config
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.concat import Concat
from zsfuse_ray.method.logistic import Classifier

LABELS = ("angry", "happy", "sad")
MODELS = {
    "alm": ModelOf(name="clap:there", identity="clap:a1"),
    "specialist": ModelOf(name="classifier:.", identity="classifier:s1"),
}
IDENTITIES = {kind: one.identity for kind, one in MODELS.items()}


def prompted(**options) -> Prompted:
    given = {
        **{"labels": LABELS, "templates": ("{}", "a {} voice"), "words": 1, "audio_repeats": (2,)},
        **{"text_repeats": (1,), "separator": " ", "ensemble": "logit", "normalise": "none"},
    }
    return Prompted(**(given | options))


def write_fusion(folder: Path, classifier: Classifier | None = None) -> None:
    """Write a fusion of LABELS, by default with weights that are drawn at random."""
    rng = np.random.default_rng(0)
    usual = Classifier(rng.normal(size=(3, 8)), rng.normal(size=3), temperature=1.5)
    files = packed(Concat(classifier or usual, "cosine", True), prompted(), MODELS, {"licence": "mine"})
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fusion(tmp_path)
    return tmp_path


def rewritten(folder: Path, **values) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | values))


def score_config(folder: Path, **options) -> ScoreConfig:
    return load_config(ScoreConfig, input="demo", output="out", fusion=str(folder), **options)[0]


def test_what_is_written_is_read(folder: Path) -> None:
    read = read_fusion(str(folder))
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(read.concat.classifier.coef, rng.normal(size=(3, 8)), rtol=1e-6)
    assert (read.concat.scores, read.concat.per_prompt) == ("cosine", True)
    assert read.concat.classifier.temperature == 1.5
    assert read.options == prompted()
    assert read.models["specialist"].name == f"classifier:{folder}"
    assert read.recorded == {"folder": str(folder), "revision": read.revision, "licence": "mine"}


def test_another_content_is_another_revision(folder: Path) -> None:
    before = read_fusion(str(folder)).revision
    rewritten(folder, per_prompt=False)
    assert read_fusion(str(folder)).revision != before


def test_score_takes_its_models_labels_and_prompts(folder: Path) -> None:
    config = score_config(folder)
    assert (config.labels, config.templates) == (LABELS, ("{}", "a {} voice"))
    assert (config.alm, config.specialist) == ("clap:there", f"classifier:{folder}")
    assert (config.audio_repeats, config.ensemble, config.normalise) == ((2,), "logit", "none")
    assert config.fused_temperature == 1.0
    read_fusion(str(folder)).check(config, IDENTITIES)


def test_a_table_keeps_its_models(folder: Path) -> None:
    config = load_config(ScoreConfig, embeddings="table", output="out", fusion=str(folder))[0]
    assert (config.alm, config.specialist, config.labels) == ("table", "table", LABELS)


@pytest.mark.parametrize(
    ("options", "identities", "message"),
    [
        (
            {"labels": "angry,sad"},
            {},
            "was trained with --labels angry,happy,sad, not angry,sad: leave --labels",
        ),
        ({"templates": "{}"}, {}, "--templates"),
        ({"audio_repeats": (1,)}, {}, "was trained with --audio-repeats 2, not 1"),
        ({"normalise": "recording"}, {}, "was trained with --normalise none, not recording"),
        ({}, {"alm": "clap:a2"}, r"was trained with --alm clap:there \(clap:a1\), not clap:a2"),
        ({"specialist": "none"}, {"specialist": "none"}, "was trained with --specialist"),
    ],
)
def test_another_use_is_refused(folder: Path, options: dict, identities: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_fusion(str(folder)).check(score_config(folder, **options), IDENTITIES | identities)


def test_a_weight_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="--weight has no effect with --fusion"):
        score_config(folder, weight=0.3)


def test_code_of_others_must_be_named(folder: Path) -> None:
    models = {"alm": {"name": "their.module:Model", "identity": "x"}}
    rewritten(folder, models=models | {"specialist": {"name": "classifier:.", "identity": "s"}})
    with pytest.raises(
        InputError, match=r"third-party code; if you trust it, pass --alm their\.module:Model"
    ):
        score_config(folder)
    assert score_config(folder, alm="their.module:Model").alm == "their.module:Model"


def test_neither_a_rule_nor_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a rule \(linear, loglinear\) nor a folder"):
        score_config(tmp_path / "missing")
    with pytest.raises(InputError, match=r'no fusion rule lineer \(did you mean "linear"\?\)'):
        load_config(ScoreConfig, input="demo", output="out", fusion="lineer")


@pytest.mark.parametrize(
    "values",
    [
        {"scores": "loud"},
        {"options": {}},
        {"models": {"alm": {"name": "clap:there", "identity": "a"}}},
        {"options": {"labels": ["angry", "sad"]}},
    ],
)
def test_a_damaged_record_is_refused(folder: Path, values: dict) -> None:
    record = json.loads((folder / RECORD).read_text())
    if values.get("options"):
        values = {"options": record["options"] | values["options"]}
    rewritten(folder, **values)
    with pytest.raises(InputError, match=f"--fusion {folder}"):
        read_fusion(str(folder))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    write_fusion(tmp_path, Classifier(np.full((3, 8), value), np.zeros(3)))
    with pytest.raises(InputError, match="damaged"):
        read_fusion(str(tmp_path))


def test_truncated_weights_are_refused(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="holds no fusion"):
        read_fusion(str(folder))
