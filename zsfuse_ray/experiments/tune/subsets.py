"""Search over subsets of many prompts, too many to enumerate: proposals by Optuna."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

ROUNDS, BATCH = 8, 32  # of proposed subsets; a batch is scored at once


def refine(
    start: Sequence[tuple[int, float]],
    n_prompts: int,
    score: Callable[[NDArray[np.uint64]], NDArray[np.float64]],
    seed: int,
) -> None:
    """Score subsets that a tree-structured Parzen estimator proposes (Bergstra et al. 2011).

    start: initial subsets, as bit masks, and their scores (higher is better). score: returns the scores of
    new subsets; the caller records results in it. The same arguments give the same proposals.
    """
    names = [f"prompt{t:02}" for t in range(n_prompts)]
    choices: dict[str, BaseDistribution] = dict.fromkeys(names, CategoricalDistribution((False, True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # both sampler options
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for subset, value in start:
        chosen = {name: bool(subset >> t & 1) for t, name in enumerate(choices)}
        study.add_trial(optuna.trial.create_trial(params=chosen, distributions=choices, value=value))
    known = {subset for subset, _ in start}
    for _ in range(ROUNDS):
        trials = [study.ask(choices) for _ in range(BATCH)]
        subsets = [sum(1 << t for t, name in enumerate(choices) if trial.params[name]) for trial in trials]
        new = sorted({*subsets} - known - {0})
        scores = dict(zip(new, score(np.array(new, np.uint64)).tolist(), strict=True)) if new else {}
        known |= scores.keys()
        for trial, subset in zip(trials, subsets, strict=True):
            if subset in scores:
                study.tell(trial, scores[subset])
            else:  # already scored, or empty
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
