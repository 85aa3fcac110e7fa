"""Options by name: the same checks and the same override order as a command line's."""

from importlib import resources
from pathlib import Path

import pytest
import yaml

from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import load_config, parse
from zsfuse_ray.config.score import PlanConfig, ScoreConfig
from zsfuse_ray.errors import InputError

NEEDED = {"input": "demo", "output": "out"}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_override_order_keyword_tuned_file_preset(tmp_path: Path):
    file = written(tmp_path, "mine.yaml", "weight: 0.1\ntemperature: 1.1\nfusion: loglinear\n")
    tuned = written(tmp_path, "tuned.yaml", "weight: 0.2\ntemperature: 1.2\n")
    preset, _ = load_config(ScoreConfig, "mini", **NEEDED)
    config, name = load_config(ScoreConfig, "mini", config_file=file, tuned=tuned, weight=0.3, **NEEDED)
    assert name == "mini"
    assert (config.weight, config.temperature, config.fusion) == (0.3, 1.2, "loglinear")
    assert config.labels == preset.labels
    of_preset = yaml.safe_load((resources.files("zsfuse_ray") / "presets/score/mini.yaml").read_text())
    assert (preset.weight, preset.temperature) == (of_preset["weight"], of_preset["temperature"])
    argv = ["--preset", "mini", "--config", str(file), "--tuned", str(tuned), "--weight", "0.3"]
    assert parse(ScoreConfig, [*argv, "--input", "demo", "--output", "out"], "") == (config, name)


def test_values_may_be_text_or_typed():
    by_text, _ = load_config(ScoreConfig, labels="sad,happy", encoders="1,2", **NEEDED)
    assert by_text == load_config(ScoreConfig, labels=("sad", "happy"), encoders=(1, 2), **NEEDED)[0]


def test_default_preset_is_used_without_preset():
    assert load_config(EmbedConfig, **NEEDED)[1] == "mini"
    assert load_config(PlanConfig, **NEEDED)[1] == ""


def test_table_models_override_only_the_default_preset():
    given = {"embeddings": "table", "output": "out"}
    assert load_config(ScoreConfig, **given)[0].alm == "table"
    assert load_config(ScoreConfig, "paper", **given)[0].alm == "clap:laion/larger_clap_general"


def test_evaluate_ignores_tuned_labels(tmp_path: Path):
    tuned = written(tmp_path, "tuned.yaml", "labels: [sad, happy]\nweight: 0.2\n")
    config, _ = load_config(EvaluateConfig, tuned=tuned, **NEEDED)
    assert (config.labels, config.weight) == ((), 0.2)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (ScoreConfig, {"wieght": 0.3}, 'unknown option wieght (did you mean "weight"?)'),
        (ScoreConfig, {"weight": 3}, "--weight 3"),
        (ScoreConfig, {"preset": "minni"}, 'no preset minni (did you mean "mini"?)'),
        (ScoreConfig, {"config_file": "/no/such.yaml"}, "--config /no/such.yaml: No such file"),
        (ScoreConfig, {"tuned": "/no/such.yaml"}, "--tuned /no/such.yaml: No such file"),
    ],
)
def test_invalid_options_give_a_one_line_error(kind, given: dict, message: str):
    with pytest.raises(InputError) as refused:
        load_config(kind, **NEEDED, **given)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_plan_refuses_tuned(tmp_path: Path):
    tuned = written(tmp_path, "tuned.yaml", "weight: 0.2\n")
    with pytest.raises(InputError, match=r"takes no tuned\.yaml"):
        load_config(PlanConfig, tuned=tuned, **NEEDED)
