"""Metrics of shipped models in their cards and in figures.json."""

import yaml

from dev.mini.cards import SYSTEMS, measured, with_figures

CARD = "---\nlicense: other\n---\nTrained on emodb (free for research): …\n\n# Model\n- family: dual\n"


def result():
    def system(name, value):
        return {"name": name, "ua": {"value": value, "low": value - 0.1, "high": value + 0.1}}

    systems = {name: system(name.upper(), 0.1 * n) for n, name in enumerate(SYSTEMS, start=2)}

    table = {"systems": systems | {"stacked": system("x", 0.9)}}
    return {
        "corpora": {"emodb": table, "nemo": table},
        "mean": {"ua": {name: {"value": 0.5, "low": None, "high": None} for name in SYSTEMS}},
        "models": {"alm": {"revision": "abc"}, "specialist": {"revision": "def"}},
    }


def test_figures_equal_the_evaluation():
    choice = {"weight": 0.5, "temperature": 2.0}
    found = measured(result(), choice)
    for name in SYSTEMS:
        assert found["ua"]["emodb"][name] == result()["corpora"]["emodb"]["systems"][name]["ua"]["value"]
    assert set(found["ua"]["emodb"]) == set(SYSTEMS)
    assert found["preset"] == choice
    assert found["models"] == {"alm": "abc", "specialist": "def"}


def test_card_starts_with_the_intended_use():
    text = with_figures(CARD, result())
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front) == {"license": "other"}
    assert body.startswith("**For research and non-commercial use.**")
    assert "non-commercial" in body.splitlines()[0]
    assert "| SVM | 30.0 (20–40) | 30.0 (20–40) | 50.0 (–) |" in body
    assert "- family: dual" in body


def test_card_update_is_idempotent():
    once = with_figures(CARD, result())
    assert with_figures(once, result()) == once
