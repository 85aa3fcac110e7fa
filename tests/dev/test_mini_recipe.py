"""Order of the parts, options of each training, and conditions of the installation."""

import pytest
import yaml
from transformers import AutoFeatureExtractor

from dev.mini import recipe
from dev.mini.__main__ import main
from dev.mini.options import MiniConfig
from zsfuse_ray.config.options import build, load_config, parse
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError, RunError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.training.run import TrainResult


def test_trainings_follow_the_recipes(monkeypatch, tmp_path):
    """train gets each recipe, start, split and command."""
    seen = []

    def trained(config: TrainConfig, preset: str, line: str) -> TrainResult:
        seen.append((config, line))
        return TrainResult(Output.open(str(tmp_path)), {})

    monkeypatch.setattr(recipe, "train", trained)
    monkeypatch.setattr(recipe, "load", lambda sources, split: None)
    monkeypatch.setattr(recipe, "write_specialist_start", lambda folder, clips, seed: None)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{}")
    given = {"corpora": "data", "output": str(tmp_path), "parts": "text,specialist,alm", "epochs": 2}
    recipe.train_parts(build(MiniConfig, given | {"leave_out": "emodb", "seed": 5}))
    assert [config.task for config, _ in seen] == ["specialist", "alm"]
    assert [line for _, line in seen] == [
        f"python -m dev.mini --corpora data --output {tmp_path} --parts {part} --seed 5 "
        "--leave-out emodb --epochs 2"
        for part in ("specialist", "alm")
    ]
    for config, _ in seen:
        assert config.corpus == ("ravdess:data/ravdess", "nemo:data/nemo")
        assert (config.splits, config.epochs, config.seed, config.half) == ("mini", 2, 5, True)
    assert seen[1][0].text == f"{tmp_path}/text"
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "start_alm")
    assert extractor.nb_max_samples == 3 * 16_000


def test_a_part_that_fails_stops_the_rest(monkeypatch, tmp_path):
    def fails(config: TrainConfig, preset: str, line: str) -> TrainResult:
        raise RunError(config.task)

    monkeypatch.setattr(recipe, "train", fails)
    monkeypatch.setattr(recipe, "load", lambda sources, split: None)
    monkeypatch.setattr(recipe, "write_specialist_start", lambda folder, clips, seed: None)
    with pytest.raises(RunError, match="specialist"):
        recipe.train_parts(
            build(MiniConfig, {"corpora": "data", "output": str(tmp_path)} | {"parts": "specialist,alm"})
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpora": ""}, "--corpora is needed"),
        ({"parts": "specialist,alms"}, 'no alms .did you mean "alm"'),
        ({"leave_out": "ravdes"}, 'no ravdes .did you mean "ravdess"'),
        ({"leave_out": "ravdess,emodb,nemo"}, "no corpus to train on"),
        ({"leave_out": "emodb", "parts": "install"}, "cannot be installed"),
    ],
)
def test_invalid_options(changed, message):
    with pytest.raises(InputError, match=message):
        build(MiniConfig, {"corpora": "data", "output": "out"} | changed)


def test_copy_is_evaluated_on_left_out_corpora():
    options = {"corpora": "data", "output": "out"}
    left = build(MiniConfig, options | {"leave_out": "emodb", "parts": "alm"})
    assert recipe.sources(left) == ("ravdess:data/ravdess", "nemo:data/nemo")
    assert recipe.sources(left, tested=True) == ("emodb:data/emodb",)
    whole = build(MiniConfig, options)
    assert recipe.sources(whole) == recipe.sources(whole, tested=True)


def test_models_without_evaluation_are_not_installed(tmp_path):
    with pytest.raises(InputError, match="not evaluated"):
        recipe.install(tmp_path, tmp_path / "weights")


@pytest.mark.parametrize("task", ["specialist", "alm"])
def test_recipe_matches_its_task(task):
    file = recipe.RECIPES / f"{task}.yaml"
    config, _ = load_config(TrainConfig, config_file=file, init="x", train="a.csv", output="o")
    assert config.task == task
    assert config.epochs == yaml.safe_load(file.read_text())["epochs"]


@pytest.mark.parametrize("part", ["specialist", "alm"])
def test_command_of_a_card_is_valid(part):
    """It parses to the same options, for only that part."""
    given = {"corpora": "data", "output": "my out", "leave_out": "emodb", "seed": 3, "epochs": 7}
    config = build(MiniConfig, given | {"parts": part})
    assert parse(MiniConfig, recipe.command(config, part)[3:], "")[0] == config


def test_invalid_command_line():
    with pytest.raises(InputError, match="--corpora is needed"):
        main(["--output", "out"])
