import pytest

from zsfuse_ray import cli
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.options import parse, presets
from zsfuse_ray.config.score import DECIDED, OF_TABLE, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec

NEEDED = ("--input", "demo", "--output", "table")
FROM_TABLE = ("--embeddings", "table", "--output", "out")


def test_audio_repeats_are_sorted_and_distinct() -> None:
    assert parse(EmbedConfig, NEEDED, "")[0].audio_repeats == (1, 2, 3, 4)
    assert parse(EmbedConfig, [*NEEDED, "--audio-repeats", "4,2,2"], "")[0].audio_repeats == (2, 4)


@pytest.mark.parametrize("name", ["templates", "labels", "weight", "text-repeats", "fusion"])
def test_embed_refuses_labelling_options(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown option --{name}"):
        parse(EmbedConfig, [*NEEDED, f"--{name}", "1"], "")


@pytest.mark.parametrize("name", presets(EmbedConfig))
def test_presets_name_valid_models(name: str) -> None:
    config, preset = parse(EmbedConfig, [*NEEDED, "--preset", name], "")
    assert preset == name
    assert parse_spec(config.alm, "alm").checkpoint
    assert parse_spec(config.specialist, "specialist").checkpoint


def test_models_default_to_those_of_the_table() -> None:
    config, preset = parse(ScoreConfig, FROM_TABLE, "")
    assert (config.alm, config.specialist, preset) == (OF_TABLE, OF_TABLE, "mini")
    config, preset = parse(ScoreConfig, [*FROM_TABLE, "--preset", "paper"], "")
    assert config.alm == "clap:laion/larger_clap_general"
    assert preset == "paper"
    config, _ = parse(ScoreConfig, [*FROM_TABLE, "--alm", "none"], "")
    assert (config.alm, config.specialist) == ("none", OF_TABLE)


def test_yaml_file_can_set_embeddings(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("embeddings: table\noutput: out\nspecialist: none\n")
    config, _ = parse(ScoreConfig, ["--config", str(tmp_path / "mine.yaml")], "")
    assert (config.embeddings, config.alm, config.specialist) == ("table", OF_TABLE, "none")


def test_input_and_embeddings_are_mutually_exclusive() -> None:
    with pytest.raises(InputError, match="--input and --embeddings exclude each other"):
        parse(ScoreConfig, [*FROM_TABLE, "--input", "demo"], "")
    with pytest.raises(InputError, match="--output is needed"):
        parse(ScoreConfig, ["--embeddings", "table"], "")


@pytest.mark.parametrize("name", DECIDED)
def test_options_fixed_by_the_table_are_refused(name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(InputError, match=f"{option} has no effect with --embeddings"):
        parse(ScoreConfig, [*FROM_TABLE, option, "1"], "")


def test_help_documents_that_input_excludes_embeddings() -> None:
    assert "--input and --embeddings exclude each other" in (cli.score.__doc__ or "")
