"""The one-standard-error rule, on constructed scores."""

import numpy as np

from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.experiments.settings import Setting
from zsfuse_ray.experiments.tune.choice import Candidates, Only, choose

F, T, W = 4, 3, 5  # folds, prompts, weights 0, .25, …
PLAIN = Setting(1, Text(1), "embedding", "linear", 1.0)
COPIES = Setting(2, Text(4), "embedding", "linear", 1.0)


def candidates(scores: dict[tuple[int, int, int], list[float]], rest: float = 0.3) -> Candidates:
    """scores: (block, prompts, index of the weight) → a value per fold; all others are `rest`."""
    folds = np.full((2, F + 1, T, W, F), rest, np.float32)
    for (block, prompts, weight), values in scores.items():
        folds[block, :, prompts - 1, weight] = values
    score = np.stack(
        [np.delete(folds[:, k], k, axis=-1).mean(-1) for k in range(F)] + [folds[:, F].mean(-1)], axis=1
    )
    subset = np.broadcast_to((2 ** np.arange(1, T + 1) - 1).astype(np.uint64)[:, None], score.shape[2:])
    weights = np.linspace(0, 1, W)
    subset = np.broadcast_to(subset, score.shape)
    return Candidates((PLAIN, COPIES), weights, score.astype(float), subset, folds)


BEST = [0.50, 0.60, 0.70, 0.80]  # mean 0.65, standard error 0.0645
NEAR = [0.50, 0.58, 0.66, 0.70]  # mean 0.61
FAR = [0.50, 0.55, 0.60, 0.60]  # mean 0.5625


def test_rule_best_takes_the_highest_mean():
    found = candidates({(1, 3, 2): BEST, (0, 1, 1): NEAR})
    choice = choose(found, F, "best")
    assert (choice.configuration.setting, choice.configuration.weight) == (COPIES, 0.5)
    assert choice.configuration.subset == 0b111
    np.testing.assert_allclose(choice.score, 0.65, atol=1e-6)
    np.testing.assert_allclose(choice.error, np.std(BEST, ddof=1) / 2, atol=1e-6)


def test_simpler_configuration_within_one_standard_error_is_chosen():
    found = candidates({(1, 3, 2): BEST, (0, 2, 4): NEAR, (0, 1, 4): FAR})
    assert choose(found, F, "one_se").configuration.subset == 0b011


def test_simplicity_ranks_prompts_then_copies_then_weight():
    found = candidates({(1, 3, 2): BEST, (0, 2, 1): NEAR, (1, 1, 4): NEAR})
    assert (
        choose(found, F, "one_se").configuration == choose(found, F, "one_se", Only(prompts=1)).configuration
    )
    found = candidates({(1, 3, 2): BEST, (1, 3, 1): NEAR, (0, 3, 3): NEAR})
    assert choose(found, F, "one_se").configuration.setting == PLAIN
    found = candidates({(1, 3, 2): BEST, (1, 3, 1): NEAR})
    assert choose(found, F, "one_se").configuration.weight == 0.25


def test_specialist_alone_is_the_simplest():
    alone = {(block, prompts, 0): NEAR for block in (0, 1) for prompts in range(1, T + 1)}
    found = candidates({(1, 3, 2): BEST, (0, 1, 1): BEST, **alone})
    assert choose(found, F, "one_se").configuration.weight == 0
    assert choose(found, F, "best").configuration.weight > 0


def test_ties_go_to_the_simplest():
    found = candidates({(1, 3, 2): BEST, (1, 2, 2): BEST, (0, 2, 3): BEST})
    chosen = choose(found, F, "best").configuration
    assert (chosen.setting, chosen.subset, chosen.weight) == (PLAIN, 0b011, 0.75)


def test_left_out_fold_has_no_effect():
    found = candidates({(0, 2, 2): [1.0, 0.2, 0.2, 0.2], (1, 3, 3): [0.0, 0.5, 0.5, 0.5]})
    assert choose(found, 0, "best").configuration.setting == COPIES
    assert choose(found, 1, "best").configuration.setting == PLAIN


def test_restrictions_are_applied():
    found = candidates({(1, 3, 2): BEST, (0, 2, 4): NEAR})
    assert choose(found, F, "best", Only(amplified=False)).configuration.setting == PLAIN
    assert choose(found, F, "best", Only(weight=1.0)).configuration.weight == 1
    assert choose(found, F, "best", Only(prompts=2)).configuration.subset == 0b011
