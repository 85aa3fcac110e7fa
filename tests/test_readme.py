"""The README's commands parse as written, and CI runs its test command."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dev.learning_curve.options import LearningCurveConfig
from dev.mini.options import MiniConfig
from tests.config.test_fusion_folder import write_fusion
from zsfuse_ray import __version__
from zsfuse_ray.cli import VERBS
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.export import ExportConfig
from zsfuse_ray.config.label import LabelConfig
from zsfuse_ray.config.models import PromptOptions
from zsfuse_ray.config.options import parse
from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.config.reproduce import ReproduceConfig
from zsfuse_ray.config.score import PlanConfig, ScoreConfig
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.models.catalog import parse_spec

ROOT = Path(__file__).parents[1]
CONFIGS = {
    "label": LabelConfig,
    "score": ScoreConfig,
    "plan": PlanConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "reproduce": ReproduceConfig,
    "export": ExportConfig,
    "train": TrainConfig,
    "embed": EmbedConfig,
    "tune": TuneConfig,
    "mini": MiniConfig,
    "learning_curve": LearningCurveConfig,
    "benchmark": BenchmarkConfig,
}


def commands() -> list[str]:
    """Every `zsfuse VERB`, `python jobs/…` or `-m dev.…` of README, docs, help texts and cluster.yaml."""
    texts = [ROOT / "README.md", ROOT / "cluster.yaml", ROOT / "zsfuse_ray" / "cli.py"]
    texts += [*(ROOT / "dev").glob("*/__main__.py"), *(ROOT / "docs").glob("*.md")]
    found = []
    for path in texts:
        joined = re.sub(r"\\+\n(#\s*)?", " ", path.read_text())
        found += re.findall(r"((?:zsfuse [a-z]+|python jobs/\w+\.py|python -m dev\.\w+) +--[^#\n`]*)", joined)
        found += re.findall(r"^ *(zsfuse label +[^#\n>-][^#\n>]*)", joined, re.M)
    return [command for command in found if not command.endswith(("--help", "--list-models"))]  # only print


@pytest.mark.parametrize("command", commands())
def test_a_command_parses_as_written(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "tuned.yaml").write_text("weight: 0.2\n")
    write_fusion(tmp_path / "my_fusion")
    words = shlex.split(command.replace("python -m dev.", "python dev/", 1))
    (program, script), arguments = words[:2], words[2:]
    job = Path(script).stem
    assert job in VERBS if program == "zsfuse" else (ROOT / script).exists()
    config, _ = parse(CONFIGS[job], arguments, "")
    if isinstance(config, PromptOptions):
        for kind in ("alm", "specialist"):
            if getattr(config, kind) != "none":
                parse_spec(getattr(config, kind), kind)


def test_there_are_commands() -> None:
    assert len(commands()) > 8


def test_ci_runs_the_readmes_test_command() -> None:
    """CI runs its two halves, with linters between them, before the commands of the second environment."""
    (command,) = re.findall(r"^(python -m .*?) +# test$", (ROOT / "README.md").read_text(), re.M)
    ci = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("python -m ")]
    assert ci[:2] == command.split(" && ")
    assert ci[1] == "python -m pytest"


def test_tests_that_need_laion_clap_run_in_cis_second_environment() -> None:
    *_, install, test = (ROOT / ".ci" / "run").read_text().splitlines()
    assert install.startswith('python -m pip install -e ".[laion]"')
    skips = re.compile(r"(find_spec|importorskip)\(\"laion_clap\"")
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if skips.search(path.read_text())]
    assert found
    assert {str(path.relative_to(ROOT)) for path in found} <= set(test.split())


def test_contributing_pre_commit_and_ci_run_the_same_linters() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    linters = [hook["entry"] for hook in repository["hooks"]]
    assert " && ".join(linters) in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    assert "\n".join(linters) in (ROOT / ".ci" / "run").read_text()


def test_the_citation_matches_the_version_and_the_readmes_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert f"]({paper['url']})" in (ROOT / "README.md").read_text()


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target
