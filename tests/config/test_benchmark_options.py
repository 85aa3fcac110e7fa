import pytest
import yaml

from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.options import load_config, parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError

CORPUS = ["--corpus", "ravdess:folder"]


def benchmark(*argv: str) -> BenchmarkConfig:
    return parse(BenchmarkConfig, argv, "a job")[0]


def test_default_parts_and_their_order():
    assert benchmark().parts == ("decode", "encode", "end", "label")
    assert benchmark(*CORPUS).parts == ("decode", "encode", "end", "label", "search", "naive")
    assert benchmark(*CORPUS, "--parts", "naive,memory,search").parts == ("search", "naive", "memory")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--parts", "decod"], 'no part decod (did you mean "decode"?)'),
        (["--parts", "search"], "--parts search needs labelled clips: add --corpus"),
        (["--parts", "decode,naive"], "--parts naive needs labelled clips"),
        (["--corpus", "ravdess"], "--corpus ravdess names no folder"),
        ([*CORPUS, "--alm", "none"], "--parts search needs an audio-language model"),
        ([*CORPUS, "--specialist", "none"], "--parts naive needs a specialist"),
        (["--repeats", "0"], "--repeats 0"),
        (["--templates", "18"], "--templates 18"),
    ],
)
def test_invalid_options_give_a_one_line_error(argv, message):
    with pytest.raises(InputError) as refused:
        benchmark(*argv)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_encoder_options_are_passed_to_the_jobs(tmp_path):
    words = ["--alm", "clap:folder", "--audio-repeats", "1,3", "--encoders", "1,2", "--batch-s", "20"]
    given = benchmark(*words).encoder_options
    file = tmp_path / "options.yaml"
    file.write_text(yaml.safe_dump(given | {"input": "demo", "output": "out"}))
    config, _ = load_config(ScoreConfig, config_file=file)
    assert (config.alm, config.audio_repeats, config.encoders) == ("clap:folder", (1, 3), (1, 2))
    assert (config.batch_s, config.specialist) == (20, "pooled:mini")
