"""Metrics of shipped models in their cards and in figures.json."""

import yaml

from dev.mini.cards import SYSTEMS, measured, with_figures

CARD = "---\nlicense: other\n---\nTrained on emodb (free for research): …\n\n# Model\n- family: dual\n"


def result():
    def system(name, value):
        return {"name": name, "ua": {"value": value, "low": value - 0.1, "high": value + 0.1}}

    systems = {name: system(name.upper(), 0.1 * n) for n, name in enumerate(SYSTEMS, start=2)}

    def table(temperature, curve):
        return {
            "systems": systems | {"stacked": system("x", 0.9)},
            "choices": [{"alm_ensemble": {"temperature": temperature}}],
            "weight_curve": {"weights": [0, 0.5, 1], "dev": {"linear": curve}},
        }

    return {
        "corpora": {"emodb": table(1.0, [0.1, 0.4, 0.5]), "nemo": table(4.0, [0.2, 0.6, 0.5])},
        "mean": {"ua": {name: {"value": 0.5, "low": None, "high": None} for name in SYSTEMS}},
        "models": {"alm": {"revision": "abc"}, "specialist": {"revision": "def"}},
    }


def test_figures_equal_the_evaluation():
    found = measured(result())
    assert (
        found["ua"]["emodb"]["zs_fuse"] == result()["corpora"]["emodb"]["systems"]["zs_fuse"]["ua"]["value"]
    )
    assert set(found["ua"]["emodb"]) == set(SYSTEMS)
    assert found["preset"] == {"weight": 0.5, "temperature": 2.0}
    assert found["models"] == {"alm": "abc", "specialist": "def"}


def test_card_starts_with_the_intended_use():
    text = with_figures(CARD, result())
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front) == {"license": "other"}
    assert body.startswith("**For trying out and for tests, not for results.**")
    assert "non-commercial" in body.splitlines()[0]
    assert "| SVM | 30.0 (20–40) | 30.0 (20–40) | 50.0 (–) |" in body
    assert "- family: dual" in body


def test_card_update_is_idempotent():
    once = with_figures(CARD, result())
    assert with_figures(once, result()) == once
