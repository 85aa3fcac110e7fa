import pytest

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import InputError

NEEDED = ["--input", "clips.csv", "--output", "out"]
TUNED = """
alm: clap:folder
labels: [sad, happy]
templates: ["{}"]
audio_repeats: [3]
temperature: 2.0
fusion: loglinear
weight: 0.25
"""


def tune(*argv: str) -> TuneConfig:
    return parse(TuneConfig, argv, "a job")[0]


def test_search_space_options():
    config = tune(*NEEDED, "--audio-repeats", "4,2", "--separators", " |, ", "--temperatures", "1,0.5,1")
    assert config.audio_repeats == (1, 2, 4)
    assert config.separators == (" ", ", ")
    assert config.temperatures == (1, 0.5)
    assert tune(*NEEDED).fusions == ("linear", "loglinear")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output", "out"], "labelled clips are needed"),
        (["--input", "clips.csv"], "--output is needed"),
        (["--corpus", "emodb", "--output", "out"], "--corpus emodb names no folder"),
        ([*NEEDED, "--folds", "2"], "--folds 2"),
        ([*NEEDED, "--alm", "none"], "nothing to tune"),
        ([*NEEDED, "--templates", "{}|{}"], "twice"),
        ([*NEEDED, "--words", "2"], "use --word-counts"),
        ([*NEEDED, "--ensemble", "logit"], "use --ensembles"),
        ([*NEEDED, "--ensembles", "mean"], "--ensembles"),
        ([*NEEDED, "--ensembles", "probability", "--word-counts", "2"], "--word-counts 1 only"),
        ([*NEEDED, "--temperatures", "0"], "--temperatures"),
        ([*NEEDED, "--temperatures", "warm"], "--temperatures"),
        ([*NEEDED, "--audio-repeats", "0"], "--audio-repeats"),
        ([*NEEDED, "--templates", "|".join(f"{n} {{}}" for n in range(49))], "at most 48"),
        ([*NEEDED, "--tuned", "tuned.yaml"], "unknown option --tuned"),
    ],
)
def test_invalid_options_give_a_one_line_error(argv, message):
    with pytest.raises(InputError) as refused:
        tune(*argv)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tuned_overrides_the_preset_and_command_line_overrides_tuned(tmp_path):
    path = tmp_path / "tuned.yaml"
    path.write_text(TUNED)
    argv = ["--input", "folder", "--output", "out", "--tuned", str(path), "--weight", "0.5"]
    config, preset = parse(ScoreConfig, argv, "")
    assert preset == "mini"
    assert (config.alm, config.labels, config.templates) == ("clap:folder", ("sad", "happy"), ("{}",))
    assert (config.audio_repeats, config.temperature, config.fusion) == ((3,), 2.0, "loglinear")
    assert config.weight == 0.5


def test_evaluate_applies_tuned_except_labels(tmp_path):
    path = tmp_path / "tuned.yaml"
    path.write_text(TUNED)
    config = parse(EvaluateConfig, [*NEEDED, "--tuned", str(path)], "")[0]
    assert (config.alm, config.templates, config.labels) == ("clap:folder", ("{}",), ())
    assert (config.audio_repeats, config.text_repeats) == ((1, 3), (1,))
    assert (config.weight, config.temperature, config.fusion) == (0.25, 2.0, "loglinear")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("wieght: 0.5", 'unknown option wieght (did you mean "weight"?)'),
        ("output: elsewhere", "unknown option output"),
        ("weight: 2", "--weight 2"),
        ("[1, 2]", "must be a YAML mapping"),
        (None, "No such file"),
    ],
)
def test_invalid_tuned_yaml_gives_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "tuned.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as refused:
        parse(ScoreConfig, ["--input", "folder", "--output", "out", "--tuned", str(path)], "")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
