"""The page of an evaluation by fold."""

from tests.experiments.test_spread import fold
from zsfuse_ray.experiments.published import published
from zsfuse_ray.experiments.spread import spread
from zsfuse_ray.reporting.by_fold import mean_and_spread, page


def result(**of_corpus: object) -> dict:
    """A result of three folds and two seeds, whose systems have the same predictions."""
    folds = [[fold(seed, n) for n in range(3)] for seed in range(2)]
    systems = spread(folds, 3, 200)["x"]
    names = {"specialist": "specialist", "alm_ensemble": "ALM", "linear": "fused, linear pool"}
    facts = {"splits": "3 folds of EmoBox", "averaging": "mean", "speaker_overlap": "none", "merged": "none"}
    table = {
        "labels": ["angry", "happy", "sad"],
        "protocol": facts | {"name": "emobox", "licence": None},
        "folds": ["fold-1", "fold-2", "fold-3"],
        "results": {"": dict.fromkeys(names, systems)},
        "names": names,
        "in_sample": {"alm": "m: trained on ravdess"},
        "published": [vars(one) for one in published("ravdess")],
        "clips": {"encoded": 120, "rejected": 1},
    }
    return {
        "versions": {"zsfuse_ray": "1"},
        "git": None,
        "seeds": 2,
        "config": {"refit": None, "normalise": "none", "resamples": 200},
        "models": {"alm": {"model": "m", "licence": None}},
        "corpora": {"ravdess": table | of_corpus},
    }


def test_it_shows_mean_and_spread_published_figures_and_what_is_in_sample():
    text = page(result())
    assert "| specialist | " in text  # not marked: only the ALM has seen the corpus
    assert "| ALM† | " in text
    assert "| fused, linear pool† | " in text
    assert "† in-sample: m: trained on ravdess." in text
    assert (
        "published: WavLM-Large 72.0 % UA: EmoBox (Ma et al. 2024), frozen encoder, trained head; 6 folds"
        in text
    )
    assert "| UA in % by fold | fold-1 | fold-2 | fold-3 |" in text
    assert "unreadable clips, left out: 1" in text


def test_a_spread_of_one_is_a_dash():
    assert mean_and_spread({"mean": 0.72, "folds": 0.051, "seeds": None}) == "72.0 ± 5.1 ± –"


def test_test_sets_have_a_table_each():
    systems = result()["corpora"]["ravdess"]["results"][""]
    text = page(result(results={"Test1": systems, "Test2": systems}))
    assert "| Test1 | UA" in text
    assert "| Test2 | UA" in text
    assert "by fold" not in text.split("## How to read it")[0].replace("# Evaluation by fold", "")
