"""Options of ``zsfuse train``: the recipes, and options that contradict each other."""

import pytest

from zsfuse_ray.config.options import PRESETS, build, parse, presets, read_yaml
from zsfuse_ray.config.train import OPERATIONAL, TrainConfig
from zsfuse_ray.errors import InputError

NEEDED = {"init": "a", "output": "b", "train": "c.csv"}


@pytest.mark.parametrize("name", presets(TrainConfig))
def test_recipes_are_valid_and_contain_no_data(name: str) -> None:
    text = (PRESETS / "train" / f"{name}.yaml").read_text()
    values = read_yaml(TrainConfig, text, name)
    assert not values.keys() & (OPERATIONAL | {"corpus", "train", "dev", "splits"}), "a recipe names no data"
    build(TrainConfig, NEEDED | values)


def test_command_line_overrides_the_recipe() -> None:
    words = ["--preset", "tiny", "--epochs", "3", "--init", "a", "--output", "b", "--train", "c.csv"]
    config, preset = parse(TrainConfig, [*words, "--workers", "1,4", "--snr-db", "0,20"], "")
    assert (config.epochs, config.balance, preset) == (3, 0.5, "tiny")
    assert (config.workers, config.snr_db) == ((1, 4), (0.0, 20.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init": ""}, "--init is needed"),
        ({"train": None}, "--corpus ravdess:FOLDER, or --train"),
        ({"corpus": "emodb:x"}, "not both"),
        ({"train": None, "corpus": "emodb:x", "dev": "d.csv"}, "--dev needs --train"),
        ({"train": None, "dev": "none"}, "--corpus ravdess:FOLDER, or --train"),
        ({"workers": "1,2,3"}, "MIN,MAX"),
        ({"snr_db": "20,5"}, "LOW,HIGH"),
        ({"snr_db": "20"}, "--snr-db"),
        ({"lora_rank": 4, "freeze": "nothing"}, "--lora-rank"),
        ({"batch_s": 4, "crop_s": 4, "workers": "1,3"}, "3 workers with 1 parts of 4 s each need 12"),
        ({"ema": 1.0}, "--ema"),
        ({"speed": 0.7}, "--speed"),
        ({"loss": "hinge"}, "--loss hinge"),
        ({"task": "alms"}, "--task alms"),
        ({"task": "alm", "lora_rank": 4}, "--lora-rank is an option of --task specialist"),
        ({"task": "alm", "loss": "focal"}, "--loss is an option of --task specialist"),
        ({"task": "alm", "accumulate": 2, "batch_s": 64}, "--accumulate"),
        ({"from_table": "t"}, "--init has no effect with --from-table"),
        ({"from_table": "t", "init": "", "lr": 0.1}, "--lr has no effect with --from-table"),
        ({"from_table": "t", "init": "", "task": "alm"}, "--from-table is an option of --task specialist"),
        ({"normalise": "speaker"}, "--normalise is an option of --from-table"),
    ],
)
def test_invalid_options_give_a_one_line_error(values: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        build(TrainConfig, NEEDED | values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_needs_no_model_and_no_other_labels() -> None:
    words = ["--from-table", "out", "--output", "my_head", "--normalise", "recording"]
    config, _ = parse(TrainConfig, words, "")
    assert (config.from_table, config.train, config.normalise) == ("out", None, "recording")
    assert parse(TrainConfig, [*words, "--train", "corrections.csv"], "")[0].train == "corrections.csv"
