import dataclasses
import json
from pathlib import Path

import pytest

from zsfuse_ray.config.options import build, parse, presets, read_yaml, recorded, resolved
from zsfuse_ray.config.score import OPERATIONAL, PlanConfig, ScoreConfig
from zsfuse_ray.corpora.registry import CORPORA
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec

NEEDED = ("--input", "demo", "--output", "out")


def score(*argv: str) -> ScoreConfig:
    return parse(ScoreConfig, [*NEEDED, *argv], "a job")[0]


def refusal(*argv: str, kind: type[PlanConfig] = ScoreConfig) -> str:
    """The error message of a refused command line, which must be one line."""
    with pytest.raises(InputError) as caught:
        parse(kind, argv, "a job")
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_override_order_command_line_file_preset_default(yaml_file) -> None:
    file = yaml_file("weight: 0.25\nlabels: [angry, sad]\ntemperature: 2\n")
    config, preset = parse(
        ScoreConfig, [*NEEDED, "--preset", "paper", "--config", file, "--weight", "0.75"], "a job"
    )
    assert preset == "paper"
    assert config.weight == 0.75  # command line over file
    assert config.labels == ("angry", "sad")  # file over preset, which names four
    assert config.alm == "clap:laion/larger_clap_general"  # preset over default
    assert config.temperature == 2.0
    assert config.max_segment_s == 10.0  # default


def test_the_preset_of_clsp_has_its_authors_prompt() -> None:
    config = score("--preset", "clsp")
    assert config.templates == ("A speaker in a {} tone.",)
    assert str(parse_spec(config.alm, "alm")) == "clsp:yfyeung/CLSP"


def test_score_has_a_default_preset_and_plan_has_none() -> None:
    assert parse(ScoreConfig, NEEDED, "a job")[1] == ScoreConfig.default_preset
    config, preset = parse(PlanConfig, [*NEEDED, "--item-s", "60"], "a job")
    assert (config.item_s, preset) == (60.0, "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--weigth", "0.5"), 'unknown option --weigth (did you mean "--weight"?)'),
        (("--weigth=0.5",), 'unknown option --weigth (did you mean "--weight"?)'),
        (("--preset", "papers"), 'no preset papers (did you mean "paper"?)'),
        (("--weight", "1.5"), "--weight 1.5: "),
        (("--weight", "heavy"), "--weight heavy: "),
        (("--temperature", "0"), "--temperature 0: "),
        (("--temperature", "-1"), "--temperature -1: "),
        (("--temperature", "1e-300"), "--temperature 1e-300: "),
        (("--specialist-temperature", "1e9"), "--specialist-temperature 1e9: "),
        (("--fused-temperature", "1e-5"), "--fused-temperature 1e-5: "),
        (("--words", "1.5"), "--words 1.5: "),
        (("--words", "0"), "--words 0: "),
        (("--audio-repeats", "1,x"), "--audio-repeats x: "),
        (("--audio-repeats", "1,0"), "--audio-repeats 0: "),
        (("--text-repeats", "65"), "--text-repeats 65: "),
        (("--ensemble", "mean"), "--ensemble mean: "),
        (("--vad", "webrtc"), "--vad webrtc: "),
        (("--pools", "one"), "--pools one: "),
        (("--item-s", "90"), "--item-s must be a multiple of 20"),
        (("--item-s", "0"), "--item-s must be a multiple of 20"),
        (("--min-segment-s", "6"), "--min-segment-s must lie between"),
        (("--max-segment-s", "61"), "--max-segment-s must lie between"),
        (("--encoders", "4,2"), "--encoders takes MIN or MIN,MAX"),
        (("--encoders", "1,2,3"), "--encoders takes MIN or MIN,MAX"),
        (("--encoders", "0"), "--encoders 0: "),
        (("--max-reject-rate", "5"), "--max-reject-rate 5: "),
        (("--alm", "none", "--specialist", "none"), "leave no model"),
        (("--labels", "happy"), "at least two labels, got happy"),
        (("--labels", "happy,joy"), '"happy" and "joy" name the same emotion'),
        (("--labels", "happy,,sad"), "a label is empty"),
        (("--templates", "{}|a voice"), 'template "a voice" needs exactly one {}'),
        (("--config", "/nowhere/mine.yaml"), "--config /nowhere/mine.yaml: No such file"),
        (("--config", "/"), "--config /: Is a directory"),
    ],
)
def test_invalid_command_line_gives_a_one_line_error_with_the_option(
    argv: tuple[str, ...], message: str
) -> None:
    assert message in refusal(*NEEDED, *argv)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "option",
    [
        "item-s",
        "min-segment-s",
        "max-segment-s",
        "weight",
        "temperature",
        "batch-s",
        "vad-threshold",
        "max-reject-rate",
        "gpus-per-encoder",
        "cpus-per-encoder",
    ],
)
def test_numbers_must_be_finite(option: str, value: str) -> None:
    assert f"--{option} {value}" in refusal(*NEEDED, f"--{option}={value}")


def test_input_and_output_are_required() -> None:
    assert "--output is needed" in refusal("--input", "demo")
    assert "--input is needed" in refusal("--output", "out")
    assert "--input is needed" in refusal("--output", "out", kind=PlanConfig)


def test_abbreviated_options_are_refused() -> None:
    assert "--temp" in refusal(*NEEDED, "--temp", "2")


def test_plan_refuses_score_options() -> None:
    assert "unknown option --weight" in refusal(*NEEDED, "--weight", "1", kind=PlanConfig)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--price", "1"), "--price has no effect without --measure: add it"),
        (("--alm", "clap:x"), "--alm has no effect on a plan without --measure: add it"),
        (("--audio-repeats", "1,2"), "--audio-repeats has no effect on a plan"),
        (("--preset", "paper"), "--alm has no effect on a plan"),
    ],
)
def test_plan_refuses_model_options_without_measure(argv: tuple[str, ...], message: str) -> None:
    config, _ = parse(PlanConfig, [*NEEDED, *argv], "a job")
    with pytest.raises(InputError) as refused:
        config.check_models()
    assert message in str(refused.value)
    parse(PlanConfig, [*NEEDED, *argv, "--measure"], "a job")[0].check_models()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--measure", "--price", "-1"), "--price -1: "),
        (("--measure", "--alm", "none", "--specialist", "none"), "leave no model"),
    ],
)
def test_measured_models_are_checked(argv: tuple[str, ...], message: str) -> None:
    assert message in refusal(*NEEDED, *argv, kind=PlanConfig)


def test_plan_measures_the_given_models() -> None:
    config, _ = parse(PlanConfig, [*NEEDED, "--measure", "--price", "0.5", "--preset", "paper"], "a job")
    assert (config.measure, config.price, config.alm) == (True, 0.5, "clap:laion/larger_clap_general")
    assert "unknown option --measure" in refusal(*NEEDED, "--measure")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weigth: 0.5", 'unknown option weigth (did you mean "weight"?)'),
        ("- weight", "must be a YAML mapping of options, not a list"),
        ("just words", "must be a YAML mapping of options, not a str"),
        ("weight: [0.5", "is not YAML"),
        ("weight: {a: 1}", "--weight"),
        ("weight: null", "--weight"),
        ("labels: 3", "--labels"),
        ("labels: [1, 2]", "--labels"),
        ("overwrite: 7", "--overwrite"),
        ("weight: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("!!python/object:zsfuse_ray.config.score.PlanConfig {input: a}", "is not YAML"),
        ("1: 2", "unknown option 1"),
    ],
)
def test_invalid_yaml_gives_a_one_line_error(yaml_file, text: str, message: str) -> None:
    assert message in refusal(*NEEDED, "--config", yaml_file(text))


def test_binary_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"weight: 0.5\xff\xfe")
    assert str(path) in refusal(*NEEDED, "--config", str(path))


def test_yaml_cannot_construct_objects(yaml_file, tmp_path: Path) -> None:
    made = tmp_path / "made"
    refusal(*NEEDED, "--config", yaml_file(f"weight: !!python/object/apply:os.mkdir ['{made}']"))
    assert not made.exists()


def test_empty_yaml_changes_nothing(yaml_file) -> None:
    assert score("--config", yaml_file("# nothing\n")) == score()


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_corpus_name_selects_its_labels(corpus: str) -> None:
    assert score("--labels", corpus).labels == CORPORA[corpus].labels


def test_labels_are_stripped_and_lowercased_in_order() -> None:
    assert score("--labels", "Sad, joy ,ANGRY").labels == ("sad", "joy", "angry")


def test_templates_are_separated_by_bars_and_may_contain_commas() -> None:
    assert score("--templates", "oh, {}|{} it is").templates == ("oh, {}", "{} it is")


@pytest.mark.parametrize(("text", "value"), [("3", (3,)), ("1,2,4", (1, 2, 4))])
def test_lists_of_numbers(yaml_file, text: str, value: tuple[int, ...]) -> None:
    from_file = score("--config", yaml_file(f"audio_repeats: {list(value)}"))
    assert score("--audio-repeats", text).audio_repeats == from_file.audio_repeats == value
    if len(value) == 1:
        assert score("--config", yaml_file(f"encoders: {text}")).encoders == value


def test_segmentation_uses_the_options() -> None:
    how = score(
        "--vad", "none", "--min-segment-s", "1", "--max-segment-s", "5", "--vad-threshold", ".3"
    ).segmentation
    assert (how.vad, how.min_segment_s, how.max_segment_s, how.threshold) == ("none", 1.0, 5.0, 0.3)


@pytest.mark.parametrize("name", presets(ScoreConfig))
def test_presets_are_valid_and_name_valid_models(name: str) -> None:
    config = score("--preset", name)
    if config.alm != "none":
        assert parse_spec(config.alm, "alm").checkpoint
    if config.specialist != "none":
        assert parse_spec(config.specialist, "specialist").checkpoint


def test_resolved_options_as_yaml_give_the_same_configuration(yaml_file) -> None:
    config = score(
        "--labels", "ravdess", "--audio-repeats", "1,2", "--encoders", "2,4", "--templates", "{}|x {}"
    )
    text = json.dumps(resolved(config))  # JSON is YAML
    assert read_yaml(ScoreConfig, text, "again") == resolved(config)
    assert parse(ScoreConfig, ["--config", yaml_file(text)], "a job")[0] == config


def test_recorded_options_contain_no_secrets() -> None:
    config = score("--input", "s3://key:hunter2@bucket/a", "--output", "https://h/out?token=hunter2")
    assert "hunter2" in json.dumps(resolved(config))
    assert recorded(config) == resolved(config) | {
        "input": "s3://bucket/a",
        "output": "https://h/out?token=***",
    }


def test_operational_names_are_options() -> None:
    assert {field.name for field in dataclasses.fields(ScoreConfig)} >= OPERATIONAL


def test_configurations_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        score().weight = 1.0  # type: ignore[misc]


def test_build_refuses_unknown_options() -> None:
    with pytest.raises(InputError, match="--colour"):
        build(ScoreConfig, {"input": "demo", "output": "out", "colour": "red"})


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(ScoreConfig, ["--help"], "a job")
    assert caught.value.code == 0
    help_text = capsys.readouterr().out
    for field in dataclasses.fields(ScoreConfig):
        assert "--" + field.name.replace("_", "-") in help_text
