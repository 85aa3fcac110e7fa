from zsfuse_ray.experiments.seen import seen_in_training

CARDS = {
    "alm": {"model": "clap:a", "trained_on": ["emodb", "RAVDESS"]},
    "specialist": {"model": "classifier:s", "trained_on": ["ravdess"]},
    "specialist2": {"model": "classifier:t"},
}


def test_each_corpus_names_the_models_that_know_it():
    found = seen_in_training(["nemo", "ravdess", "emodb", None], CARDS)
    assert list(found) == ["emodb", "ravdess"]
    assert found["emodb"].startswith("clap:a: trained on emodb;")
    assert found["ravdess"].startswith("clap:a and classifier:s: trained on ravdess;")


def test_no_card_no_warning():
    assert seen_in_training(["emodb"], {}) == {}
