import pytest

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import parse, presets
from zsfuse_ray.errors import InputError

NEEDED = ["--input", "clips.csv", "--output", "out"]


def evaluate(*argv: str) -> EvaluateConfig:
    return parse(EvaluateConfig, argv, "a job")[0]


def test_sources_are_manifests_and_corpora():
    config = evaluate("--input", "a.csv,b.jsonl", "--corpus", "emodb:folder", "--output", "out")
    assert config.sources == ("a.csv", "b.jsonl", "emodb:folder")


def test_repeats_always_include_one():
    config = evaluate(*NEEDED, "--audio-repeats", "4,2", "--text-repeats", "1")
    assert config.audio_repeats == (1, 2, 4)
    assert config.text_repeats == (1,)
    assert evaluate(*NEEDED).audio_repeats == (1, 2, 3, 4)


def test_repeats_default_to_one_with_weight():
    config = evaluate(*NEEDED, "--weight", "0")
    assert (config.weight, config.audio_repeats, config.text_repeats) == (0.0, (1,), (1,))
    config = evaluate(*NEEDED, "--weight", "0.4", "--audio-repeats", "2", "--preset", "mini")
    assert (config.audio_repeats, config.text_repeats) == ((1, 2), (1,))


@pytest.mark.parametrize("name", presets(EvaluateConfig))
def test_presets_are_valid(name):
    assert parse(EvaluateConfig, [*NEEDED, "--preset", name], "")[1] == name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output", "out"], "labelled clips are needed"),
        (["--input", "clips.csv"], "--output is needed"),
        (["--corpus", "emodb", "--output", "out"], "--corpus emodb names no folder"),
        ([*NEEDED, "--folds", "1"], "--folds 1"),
        ([*NEEDED, "--resamples", "3"], "--resamples 3"),
        ([*NEEDED, "--labels", "sad"], "at least two labels"),
        ([*NEEDED, "--alm", "none", "--specialist", "none"], "leave no model"),
        ([*NEEDED, "--templates", "sad"], "needs exactly one {}"),
        ([*NEEDED, "--weight", "1.5"], "--weight 1.5"),
        ([*NEEDED, "--weight", "0.5", "--alm", "none"], "--weight fuses two models"),
        ([*NEEDED, "--temperature", "0"], "--temperature 0"),
    ],
)
def test_invalid_options_give_a_one_line_error(argv, message):
    with pytest.raises(InputError) as refused:
        evaluate(*argv)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
