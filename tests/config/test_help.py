"""``--help`` of every verb: the shown defaults are those that a run records, and can be typed."""

import re
from dataclasses import fields
from importlib import resources
from typing import Any

import pytest
import yaml

from dev.mini.options import MiniConfig
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.command_line import GROUPS
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.export import ExportConfig
from zsfuse_ray.config.label import LabelConfig
from zsfuse_ray.config.options import Options, load_config, parse, presets, recorded
from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.config.score import PlanConfig, ScoreConfig
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import InputError

VERBS = {
    "label": LabelConfig, "plan": PlanConfig, "score": ScoreConfig, "embed": EmbedConfig,
    "tune": TuneConfig, "train": TrainConfig, "evaluate": EvaluateConfig,
    "report": ReportConfig, "export": ExportConfig,
    "benchmark": BenchmarkConfig, "dev.mini": MiniConfig,
}  # fmt: skip
CASES = [(verb, preset) for verb, kind in VERBS.items() for preset in (None, *presets(kind))]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")

    def shown(kind: type[Options], *argv: str) -> str:
        with pytest.raises(SystemExit) as ended:
            parse(kind, [*argv, "--help"], "a job", "zsfuse job")
        assert ended.value.code == 0
        return capsys.readouterr().out

    return shown


def options_of(text: str) -> dict[str, str]:
    """Help by option name: the placeholder of its value, its text, its default."""
    entries = re.split(r"^  (?:-h, )?--([\w-]+)", text, flags=re.M)[1:]
    bodies = [re.split(r"\n\n", body)[0] for body in entries[1::2]]
    return {name: " ".join(body.split()) for name, body in zip(entries[::2], bodies, strict=True)}


def default_in(body: str) -> str | None:
    found = re.search(r" \(default (.*)\)$", body)
    return found[1] if found else None


@pytest.mark.parametrize(("verb", "preset"), CASES)
def test_shown_defaults_equal_recorded_values(help_of, verb: str, preset: str | None) -> None:
    kind: Any = VERBS[verb]
    shown = options_of(help_of(kind, *(["--preset", preset] if preset else [])))
    named = {} if preset is None else {"preset": preset}
    file = resources.files("zsfuse_ray") / f"presets/{kind.preset_folder}/{preset}.yaml"
    own = yaml.safe_load(file.read_text()) if preset else {}
    needed = {name: value for name, value in kind.needed.items() if name not in own}
    config, _ = load_config(kind, **named, **needed)
    for name, value in recorded(config).items():
        option = name.replace("_", "-")
        if name in kind.replaced or name == kind.positional:
            assert option not in shown
            continue
        default = default_in(shown[option])
        if name in needed or value in (None, "", []):
            assert default is None, option
            continue
        assert default is not None, option
        typed = {name: " " if default == "a space" else default}
        assert recorded(load_config(kind, **named, **needed | typed)[0]) == recorded(config), option


def test_score_shows_the_defaults_of_its_preset(help_of) -> None:
    usual, paper = (options_of(help_of(ScoreConfig, *argv)) for argv in ([], ["--preset", "paper"]))
    preset = yaml.safe_load((resources.files("zsfuse_ray") / "presets/score/mini.yaml").read_text())
    for name in ("weight", "temperature", "specialist_temperature", "fused_temperature"):
        assert default_in(usual[name.replace("_", "-")]) == str(preset[name])
    assert default_in(usual["labels"]) == "angry,happy,sad,neutral,fearful,disgust,surprised"
    assert default_in(paper["weight"]) == "0.5"
    assert default_in(paper["alm"]) == "clap:laion/larger_clap_general"
    assert default_in(paper["labels"]) == "angry,happy,neutral,sad"
    assert default_in(usual["preset"]) == "mini"


def test_machine_dependent_defaults_are_described(help_of) -> None:
    shown = options_of(help_of(ScoreConfig))
    for name in ("encoders", "gpus-per-encoder", "cpus-per-encoder", "batch-s", "ray-address"):
        assert "by default" in shown[name], name


@pytest.mark.parametrize(
    ("kind", "option", "shown"),
    [
        (ScoreConfig, "ensemble", "{embedding,logit,probability} "),
        (ScoreConfig, "fusion", "{linear,loglinear,FOLDER} "),
        (ScoreConfig, "preset", "{clsp,mini,paper,untrained} "),
        (ScoreConfig, "keep-encoded", "[{yes,no}] "),
        (ScoreConfig, "output", "FOLDER "),
        (ScoreConfig, "weight", "NUMBER "),
        (ScoreConfig, "batch-s", "NUMBER "),
        (ScoreConfig, "labels", "LIST "),
        (ScoreConfig, "encoders", "MIN[,MAX] "),
        (ScoreConfig, "separator", "TEXT "),
        (TuneConfig, "parts", "{train,dev,test},… "),
        (TuneConfig, "fusions", "{linear,loglinear},… "),
        (TrainConfig, "snr-db", "LOW,HIGH "),
    ],
)
def test_value_placeholders(help_of, kind: type[Options], option: str, shown: str) -> None:
    assert options_of(help_of(kind))[option].startswith(shown)


@pytest.mark.parametrize("kind", VERBS.values())
def test_options_are_in_groups_that_fit_a_screen(help_of, kind: type[Options]) -> None:
    text = help_of(kind)
    found = re.split(r"\n\n(?=[\w -]+:\n)", text)[1:]
    titles = [group.split(":")[0] for group in found]
    assert titles == ["options", *(title for title in GROUPS if title in titles)]
    assert all(len(group.splitlines()) < 60 for group in found)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in (*kind.replaced, kind.positional):
            group = found[titles.index(field.metadata["group"])]
            assert f"\n  --{field.name.replace('_', '-')} " in group


def test_flags_can_be_switched_on_and_off() -> None:
    def trained(*argv: str) -> TrainConfig:
        return parse(TrainConfig, ["--init", "a", "--output", "b", "--train", "c.csv", *argv], "")[0]

    assert not trained().weighted_layers
    assert trained("--weighted-layers", "--seed", "3").weighted_layers
    assert trained("--preset", "finetune").weighted_layers
    assert not trained("--preset", "finetune", "--weighted-layers", "no").weighted_layers
    with pytest.raises(InputError, match="--weighted-layers maybe: "):
        trained("--weighted-layers", "maybe")


def test_help_with_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="no preset papers"):
        parse(ScoreConfig, ["--help", "--preset", "papers"], "")
