"""The shares of --prior: from a file or YAML options, and one-line errors."""

from pathlib import Path

import numpy as np
import pytest

from zsfuse_ray.config.label import LabelConfig
from zsfuse_ray.config.options import build, parse, recorded, resolved
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError

NEEDED = ("--input", "demo", "--output", "out", "--labels", "happy,sad,neutral")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shares.yaml"


def score(*argv: object) -> ScoreConfig:
    return parse(ScoreConfig, [*NEEDED, *map(str, argv)], "a job")[0]


def refusal(*argv: object) -> str:
    with pytest.raises(InputError) as caught:
        score(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_prior_the_models_decide() -> None:
    assert score().wanted_prior is None
    assert score().prior == "none"


def test_a_uniform_prior() -> None:
    prior = score("--prior", "uniform", "--prior-strength", "0.5").wanted_prior
    assert prior is not None
    np.testing.assert_allclose(prior.shares, [1 / 3] * 3)
    assert prior.strength == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "neutral: 0.7\nhappy: 0.2\nsad: 0.1",
        "{Sad: 10, happy: 20, neutral: 70}",  # percentages
        "{sad: 0.0999, happy: 0.1998, neutral: 0.6993}",  # rounded
    ],
)
def test_shares_of_a_file_are_recorded_in_the_order_of_the_labels(file: Path, text: str) -> None:
    file.write_text(text)
    config = score("--prior", file)
    assert recorded(config)["prior"] == pytest.approx({"happy": 0.2, "sad": 0.1, "neutral": 0.7})
    assert list(recorded(config)["prior"]) == ["happy", "sad", "neutral"]
    assert config.wanted_prior is not None
    np.testing.assert_allclose(config.wanted_prior.shares, [0.2, 0.1, 0.7])
    file.unlink()
    assert build(ScoreConfig, resolved(config)) == config


def test_shares_may_be_in_a_config_file(file: Path) -> None:
    file.write_text("prior: {happy: 0.5, sad: 0.25, neutral: 0.25}")
    assert score("--config", file).prior == {"happy": 0.5, "sad": 0.25, "neutral": 0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{happy: 0.5, sad: 0.3, neutrl: 0.2}", 'unknown label neutrl (did you mean "neutral"?)'),
        ("{happy: 0.5, sad: 0.3, neutral: 0.1, no: 0.1}", "unknown label false (one of"),
        ("{happy: 0.5, sad: 0.5}", "no share for neutral; name every label"),
        ("", "no share for happy, sad, neutral"),
        ("{happy: -0.5, sad: 0.5, neutral: 1}", "the share of happy must be a number above 0, not -0.5"),
        ("{happy: 0, sad: 0.5, neutral: 0.5}", "must be a number above 0, not 0; leave a label"),
        ("{happy: yes, sad: 0.5, neutral: 0.5}", "must be a number above 0, not True"),
        ("{happy: .nan, sad: 0.5, neutral: 0.5}", "must be a number above 0, not nan"),
        ("{happy: .inf, sad: 0.5, neutral: 0.5}", "must be a number above 0, not inf"),
        ("{happy: [1], sad: 0.5, neutral: 0.5}", "must be a number above 0, not [1]"),
        ("{happy: 0.3, sad: 0.3, neutral: 0.3}", "the shares sum to 0.9; give shares that sum to 1"),
        ("{happy: 3, sad: 3, neutral: 4}", "the shares sum to 10; give shares"),
        ("- happy", "must be a YAML mapping of labels to shares, not a list"),
        ("{happy: 0.5", "is not YAML"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_wrong_file_gives_a_one_line_error(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    found = refusal("--prior", file)
    assert found.startswith(f"--prior {file}")
    assert message in found


def test_a_file_that_cannot_be_read_gives_a_one_line_error(file: Path) -> None:
    assert "--prior unifrom: no such file; give none, uniform or a YAML file" in refusal("--prior", "unifrom")
    assert "Is a directory" in refusal("--prior", file.parent)
    file.write_bytes(b"\xff\xfe")
    assert "not a text file" in refusal("--prior", file)


@pytest.mark.parametrize("strength", ["0", "0.5"])
def test_a_strength_needs_a_prior(strength: str) -> None:
    assert refusal("--prior-strength", strength) == "--prior-strength has no effect without --prior: add it"


@pytest.mark.parametrize("strength", ["-0.1", "1.5", "nan"])
def test_a_strength_is_between_0_and_1(strength: str) -> None:
    assert f"--prior-strength {strength}: " in refusal("--prior", "uniform", f"--prior-strength={strength}")


def test_only_an_archive_has_a_prior() -> None:
    with pytest.raises(InputError, match="unknown option --prior"):
        parse(LabelConfig, ["talk.mp3", "--prior", "uniform"], "a job")
