import copy

import pytest

from tests.experiments.synthetic import clips, evidence
from zsfuse_ray.experiments.figures import figures
from zsfuse_ray.experiments.protocol import protocol
from zsfuse_ray.experiments.systems import run_round
from zsfuse_ray.reporting.canvas import image
from zsfuse_ray.reporting.evaluation import page, write
from zsfuse_ray.reporting.plots import draw
from zsfuse_ray.runs.folder import Output


@pytest.fixture(scope="module")
def result() -> dict:
    """What ``evaluation.json`` holds, for a corpus of splits and one of folds."""
    data, tables = evidence(alm=0.6, specialist=0.7, templates=5, text_repeats=(1, 4)), {}
    for name, split in (("numbers", True), ("more numbers", False)):
        plan = protocol(clips(n_each=20, split=split), name, 3, "mini" if split else None)
        table, _ = figures(data, plan, [run_round(data, r, "embedding") for r in plan.rounds], 100)
        table["protocol"] |= {"encoded": 240, "rejected": 2, "licence": "for trying"}
        tables[name] = table
    return {
        "versions": {"zsfuse_ray": "1"},
        "git": None,
        "normalised": ["specialist"],
        "seen_in_training": {"numbers": "classifier:s: trained on numbers; too good"},
        "config": {"resamples": 100, "objective": "nll"},
        "models": {
            "alm": {
                "model": "clap:a",
                "revision": "r1",
                "licence": "mit",
                "prompts_truncated": {"1": 0, "4": 7},
            },
            "specialist": {
                "model": "classifier:s",
                "revision": None,
                "licence": None,
                "labels": ["sad", "mad"],
            },
        },
        "templates": [f"template {n} {{}}" for n in range(5)],
        "corpora": tables,
        "mean": {"ua": {}, "difference": {"value": 0.01, "low": -0.01, "high": 0.03}, "no_interval": None},
    }


def test_page_states_protocol_models_choices_and_verdict(result):
    text = page(result)
    table = result["corpora"]["numbers"]
    for message in (
        "UA",
        "WA",
        "splits of mini",
        "3 folds by speaker; 240 clips of 12 speakers, in each fold one part is tested",
        "merged classes: none",
        "In-sample? classifier:s: trained on numbers; too good.",
        "licence of the data: for trying",
        "dev 60 clips of 3 speakers",
        "speaker overlap of the test part with train and dev: none",
        "unreadable clips, left out: 2",
        "no intervals: a bootstrap over fewer than five speakers (here 3) cannot give a 95 % interval",
        "choices and temperatures rest on 3 speakers",
        "by the likelihood after calibration",
        "`clap:a`, revision r1, licence mit",
        "licence not stated",
        "on vectors normalised by speaker: specialist",
        "7 of b=4",
        table["verdict"],
        f"ZS-Fuse: w {table['choices'][0]['zs_fuse']['w']:.3g}, rule",
        "fold 3: ZS-Fuse",
        '"template ',
        "+1.0 points (-1.0 to +3.0)",
    ):
        assert message in text, message


def test_tables_contain_every_system_with_its_interval(result):
    lines = page(result).splitlines()
    for system in result["corpora"]["numbers"]["systems"].values():
        ua = system["ua"]
        value = f"{100 * ua['value']:.1f} (–)"
        assert any(line.startswith(f"| {system['name']} | {value} |") for line in lines), system["name"]

    for system in result["corpora"]["more numbers"]["systems"].values():
        if (ua := system["ua"])["low"] is not None:
            value = f"{100 * ua['value']:.1f} ({100 * ua['low']:.1f}–{100 * ua['high']:.1f})"
            assert any(line.startswith(f"| {system['name']} | {value} |") for line in lines), system["name"]


def test_calibration_is_a_table_and_a_figure(result):
    table = result["corpora"]["more numbers"]
    text = page(result)
    figure = dict(draw("more numbers", table))["reliability"]
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    for key, both in table["calibration"].items():
        name, after = table["systems"][key]["name"], both["after"]
        losses = f"{both['before']['nll']:.3f} | {after['nll']:.3f} |"
        assert any(line.startswith(f"| {name} |") and line.endswith(losses) for line in text.splitlines())
        *_, before_line, after_line = panels[name].get_lines()
        for line, one in ((before_line, both["before"]), (after_line, after)):
            confidence = [100 * c for c in one["reliability"]["confidence"] if c is not None]
            assert list(line.get_xdata()) == confidence
        labels = [text.get_text() for text in panels[name].get_legend().get_texts()]
        ece = [100 * both[when]["ece"]["value"] for when in ("before", "after")]
        assert labels == [f"temperatures 1, ECE {ece[0]:.1f}", f"calibrated, ECE {ece[1]:.1f}"]


def test_page_states_if_no_model_beats_the_svm(result):
    worse = copy.deepcopy(result)
    worse["corpora"]["numbers"]["systems"]["svm"]["ua"]["value"] = 0.999
    assert "\nnumbers: no model beats the SVM (99.9" in page(worse)
    worse["corpora"]["numbers"]["systems"]["svm"]["ua"]["value"] = 0.001
    assert "\nnumbers: no model beats" not in page(worse)


def test_system_missing_in_one_corpus_is_a_dash(result):
    less = copy.deepcopy(result)
    for table in (less["corpora"]["numbers"]["systems"], *less["corpora"]["numbers"]["choices"]):
        del table["svm"]
    del less["corpora"]["numbers"]["differences"]["zs_fuse - svm"]
    (line, *_) = [line for line in page(less).splitlines() if line.startswith("| SVM")]
    assert line.startswith("| SVM on log-mel statistics | – |")


def test_every_figure_is_written_as_png_and_svg(result, tmp_path):
    message = write(Output.open(str(tmp_path)), result)
    assert str(tmp_path) in message
    names = ("systems", "confusion", "reliability", "weight", "amplification")
    for corpus in ("numbers", "more_numbers"):
        for name in names:
            png, svg = (tmp_path / "figures" / f"{corpus}_{name}.{form}" for form in ("png", "svg"))
            assert png.read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in svg.read_bytes()
            assert f"figures/{png.name}" in (tmp_path / "evaluation.md").read_text()
    assert len(list((tmp_path / "figures").iterdir())) == 20


def test_figures_show_the_values_of_the_tables(result):
    table = result["corpora"]["numbers"]
    drawn = dict(draw("numbers", table))
    (axes,) = drawn["systems"].axes
    shown = {text.get_text() for text in axes.texts}
    assert {f"{100 * s['ua']['value']:.1f}" for k, s in table["systems"].items() if k != "chance"} <= shown
    dev, _ = drawn["weight"].axes
    linear = dev.get_lines()[0]
    assert linear.get_xdata().tolist() == table["weight_curve"]["weights"]
    assert list(linear.get_ydata()) == [100 * v for v in table["weight_curve"]["dev"]["linear"]]
    stars = [text.get_text() for text in drawn["amplification"].axes[0].texts if "★" in text.get_text()]
    chosen = table["choices"][0]["alm_amplified"]
    grid = table["amplification"]
    value = grid["dev"][grid["a"].index(chosen["a"])][grid["b"].index(chosen["b"])]
    assert stars == [f"{100 * value:.1f} ★"]
    first = drawn["confusion"].axes[0]
    counts = table["systems"]["svm"]["confusion"]
    assert first.texts[0].get_text() == f"{100 * counts[0][0] / sum(counts[0]):.0f}"


def test_without_models_there_are_fewer_figures(result):
    table = copy.deepcopy(result["corpora"]["numbers"])
    for name in ("weight_curve", "amplification", "differences", "verdict"):
        del table[name]
    table["systems"] = {name: table["systems"][name] for name in ("chance", "svm")}
    table["calibration"] = {}
    assert [name for name, _ in draw("numbers", table)] == ["systems", "confusion", "reliability"]


def test_figures_are_reproducible_byte_for_byte(result):
    table = result["corpora"]["numbers"]
    for form in ("png", "svg"):
        first, again = (image(dict(draw("numbers", table))["weight"], form) for _ in range(2))
        assert first == again
