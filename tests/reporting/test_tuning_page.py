"""The page and figures of a tuning show the values of tune.json."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.synthetic import config, evidence, searched
from zsfuse_ray.config.options import resolved
from zsfuse_ray.experiments.tune.assess import assess
from zsfuse_ray.experiments.tune.choice import choose
from zsfuse_ray.experiments.tune.configurations import block_of
from zsfuse_ray.experiments.tune.curves import amplification_table, contributions, weight_curve
from zsfuse_ray.experiments.tune.summary import summarise
from zsfuse_ray.experiments.tune.written import written
from zsfuse_ray.reporting.tuning import draw, page, write
from zsfuse_ray.runs.folder import Output


def tuned(specialist: bool = True) -> dict:
    """tune.json of a synthetic corpus."""
    e = evidence(alm=2.5, specialist=0.8)
    e = e if specialist else replace(e, specialists={})
    e = e.calibrated(np.arange(len(e.targets)))
    options = config()
    found = searched(e, options)
    table = assess(e, found, options)
    best = choose(found, e.n_folds, "best").configuration
    _, subsets = summarise(block_of(e, best.setting, "ua"))
    return {
        "config": resolved(options),
        "clips": {"encoded": len(e.targets), "rejected": 0, "folds": e.n_folds},
        "seen_in_training": {"numbers": "classifier:s: trained on numbers; too good"},
        "search": {"configurations": 1, "blocks": 1, "failed": {}, "exhaustive": True, "seconds": 1.0},
        **table,
        "tuned": written(e, found, options, table),
        "best_in_sample": best.record(options.templates),
        "amplification": amplification_table(found) | {"no_effect_a": [3], "no_effect_b": []},
        "weight_curve": weight_curve(e, options, best),
        "prompts": contributions(subsets, options.templates),
    }


@pytest.fixture(scope="module")
def result():
    return tuned()


def test_page_states_the_results(result):
    text = page(result)
    assert result["tuned"]["verdict"] in text
    for system in result["systems"].values():
        assert f"| {system['name']} | {system['nested']:.3f} | {system['in_sample']:.3f} |" in text
    assert "In-sample? classifier:s: trained on numbers; too good." in text
    assert "no-op copies of the audio, left out: a = 3" in text
    assert "copies of the text" not in text
    for system in result["tuned"]["calibration"]["systems"].values():
        ece = [f"{100 * system[when]['ece']:.1f}" for when in ("before", "after")]
        losses = [f"{system[when]['nll']:.3f}" for when in ("before", "after")]
        assert f"| {system['name']} | {' | '.join(ece + losses)} |" in text
    assert "those of each speaker are" in text
    assert f"- weight: `{result['tuned']['options']['weight']}`" in text


def test_every_figure_is_written_as_png_and_svg(result, tmp_path):
    message = write(Output.open(str(tmp_path)), result)
    assert str(tmp_path) in message
    for name in ("amplification", "weight", "prompts"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.fromstring((tmp_path / "figures" / f"{name}.svg").read_bytes())


def test_figures_show_the_values_of_the_table(result):
    figures = dict(draw(result))
    shown = {text.get_text() for ax in figures["amplification"].axes for text in ax.texts}
    assert {f"{100 * v:.1f}" for row in result["amplification"]["fused"] for v in row} <= shown
    (ax,) = figures["weight"].axes
    line = next(line for line in ax.lines if line.get_label() == "linear")
    assert line.get_ydata()[0] == pytest.approx(100 * result["weight_curve"]["linear"][0]["value"])
    assert len(figures["prompts"].axes[0].patches) == 2 * len(result["prompts"])


def test_the_best_template_contributes_most(result):
    rows = sorted(result["prompts"], key=lambda row: -row["alm"])
    assert rows[0]["template"] == "0 {}"
    assert rows[0]["alm"] > 0 > rows[-1]["alm"]


def test_without_a_specialist_there_is_no_curve():
    assert [name for name, _ in draw(tuned(specialist=False))] == ["amplification", "prompts"]
