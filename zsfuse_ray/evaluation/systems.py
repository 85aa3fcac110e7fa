"""The systems of the paper's table: every choice is made on dev clips, every prediction on test clips."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound

from zsfuse_ray.evaluation.baseline import svm_posteriors
from zsfuse_ray.evaluation.heard import Amplified, Fusion, Heard
from zsfuse_ray.evaluation.protocol import Round
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.method.zeroshot import posterior

WEIGHTS = np.linspace(0, 1, 21)
_SAME = 1e-9  # UA this close is equal, and the simpler choice is taken

CHANCE, SVM, SPECIALIST = "chance", "svm", "specialist"
SINGLE_MEAN, SINGLE_BEST = "alm_single_mean", "alm_single_best"
ENSEMBLE, AMPLIFIED = "alm_ensemble", "alm_amplified"
FUSED_PLAIN, FUSED, GIVEN = "fused_plain", "zs_fuse", "zs_fuse_given"
STACKED, FUSED_SVM = "stacked", "zs_fuse_svm"
NAMES = {
    CHANCE: "chance",
    SVM: "SVM on log-mel statistics",
    SPECIALIST: "specialist alone",
    SINGLE_MEAN: "ALM, one prompt (mean over prompts)",
    SINGLE_BEST: "ALM, one prompt (best on dev)",
    ENSEMBLE: "ALM, prompt ensemble",
    AMPLIFIED: "ALM, ensemble + amplification",
    FUSED_PLAIN: "ZS-Fuse without amplification",
    FUSED: "ZS-Fuse",
    GIVEN: "ZS-Fuse as given",
    STACKED: "stacked logistic regression",
    FUSED_SVM: "ZS-Fuse + SVM",
}


@dataclass(eq=False)
class Outcome:
    """What a round gives: posteriors of the test clips by system, choices, and curves for figures.

    Of SINGLE_MEAN there is one array of posteriors a prompt. weight_curve: rule -> UA at each of WEIGHTS;
    grid: (A, B) UA of the amplified ensemble; both on dev ("dev") and test ("test") clips.
    """

    posteriors: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    weight_curve: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    grid: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def alm_posterior(
    heard: Heard, rows: NDArray, chosen: Amplified, prompt: int | None = None
) -> NDArray[np.float64]:
    """Return the ALM's posteriors (rows, C) under an amplification, of all prompts or a single one."""
    assert heard.audio is not None
    assert heard.text is not None
    audio = heard.audio[rows, heard.audio_repeats.index(chosen.a)]
    text = heard.text[heard.text_repeats.index(chosen.b)]
    text = text if prompt is None else text[prompt : prompt + 1]
    return posterior(audio, text, heard.scale, heard.ensemble, chosen.temperature)


def fitted(heard: Heard, rows: NDArray, a: int, b: int, prompt: int | None = None) -> Amplified:
    """Return the amplification with the temperature of the best likelihood on these clips."""

    def loss(log_t: float) -> float:
        tried = Amplified(a, b, float(np.exp(log_t)))
        return nll(alm_posterior(heard, rows, tried, prompt), heard.targets[rows])

    return Amplified(a, b, float(np.exp(fminbound(loss, *np.log([0.01, 100]), xtol=1e-3))))


def choose_amplified(heard: Heard, rows: NDArray) -> Amplified:
    """Return the (a, b) of the best UA on these clips; of equals the one with the fewest copies."""
    return max(
        _simple_first(heard), key=lambda ab: round(_ua(heard, rows, alm_posterior(heard, rows, ab)) / _SAME)
    )


def choose_prompt(heard: Heard, rows: NDArray) -> int:
    """Return the template of the best UA on these clips, without amplification."""
    once = Amplified(1, 1, 1.0)
    assert heard.text is not None
    found = [_ua(heard, rows, alm_posterior(heard, rows, once, p)) for p in range(heard.text.shape[1])]
    return int(np.argmax(found))


def choose_fusion(heard: Heard, rows: NDArray, amplified: list[Amplified]) -> Fusion:
    """Return the fusion of the best UA on these clips; of equals the simplest: smallest w, fewest copies."""
    assert heard.specialist is not None
    best, best_ua = None, -1.0
    posteriors = [(chosen, alm_posterior(heard, rows, chosen)) for chosen in amplified]
    for weight, (chosen, alm), rule in product(WEIGHTS, posteriors, RULES):
        found = _ua(heard, rows, fuse(heard.specialist[rows], alm, float(weight), rule, heard.inside))
        if found > best_ua + _SAME:
            best, best_ua = Fusion(chosen, float(weight), rule, found), found
    assert best is not None
    return best


def run_round(heard: Heard, r: Round) -> Outcome:
    """Choose on dev clips, predict test clips, whose labels are used for the figures' curves alone."""
    done = Outcome()
    n_labels = len(heard.labels)
    done.posteriors[CHANCE] = [np.full((len(r.test), n_labels), 1 / n_labels)]
    svm = None
    if heard.features is not None:
        svm = svm_posteriors(heard.features, heard.targets, heard.speakers, r.train, n_labels)
    if svm is not None:
        done.posteriors[SVM], done.choices[SVM] = [svm[0][r.test]], svm[1]
    if heard.specialist is not None:
        done.posteriors[SPECIALIST] = [heard.specialist[r.test]]
    if heard.audio is not None:
        _alm(heard, r, done)
    if heard.specialist is not None and heard.audio is not None:
        _fused(heard, r, done, None if svm is None else svm[0])
    return done


def _alm(heard: Heard, r: Round, done: Outcome) -> None:
    assert heard.text is not None
    once = Amplified(1, 1, 1.0)
    prompts = range(heard.text.shape[1])
    fits = [fitted(heard, r.dev, 1, 1, p) for p in prompts]
    single = [alm_posterior(heard, r.test, fit, p) for p, fit in zip(prompts, fits, strict=True)]
    best = choose_prompt(heard, r.dev)
    done.posteriors |= {SINGLE_MEAN: single, SINGLE_BEST: [single[best]]}
    done.choices[SINGLE_BEST] = {"prompt": best}
    plain = fitted(heard, r.dev, 1, 1)
    done.posteriors[ENSEMBLE] = [alm_posterior(heard, r.test, plain)]
    done.choices[ENSEMBLE] = {"temperature": plain.temperature}
    chosen = choose_amplified(heard, r.dev)
    chosen = fitted(heard, r.dev, chosen.a, chosen.b)
    done.posteriors[AMPLIFIED] = [alm_posterior(heard, r.test, chosen)]
    done.choices[AMPLIFIED] = {"a": chosen.a, "b": chosen.b, "temperature": chosen.temperature}
    pairs = [replace(once, a=a, b=b) for a, b in product(heard.audio_repeats, heard.text_repeats)]
    shape = (len(heard.audio_repeats), len(heard.text_repeats))
    for part, rows in (("dev", r.dev), ("test", r.test)):
        found = [_ua(heard, rows, alm_posterior(heard, rows, pair)) for pair in pairs]
        done.grid[part] = np.reshape(found, shape)


def _fused(heard: Heard, r: Round, done: Outcome, svm: NDArray | None) -> None:
    specialist = heard.specialist
    assert specialist is not None
    fits = [fitted(heard, r.dev, pair.a, pair.b) for pair in _simple_first(heard)]
    for name, amplified in ((FUSED_PLAIN, fits[:1]), (FUSED, fits)):
        best = choose_fusion(heard, r.dev, amplified)
        done.posteriors[name] = [fused(heard, r.test, best)]
        done.choices[name] = _told(best)
        if name == FUSED:
            chosen = best
    if heard.given is not None:
        done.posteriors[GIVEN] = [fused(heard, r.test, heard.given)]
        done.choices[GIVEN] = _told(heard.given)
    alm = {
        part: alm_posterior(heard, rows, chosen.amplified)
        for part, rows in (("dev", r.dev), ("test", r.test))
    }
    stacked = fit_stacked(specialist[r.dev], alm["dev"], heard.targets[r.dev], len(heard.labels))
    done.posteriors[STACKED] = [stacked.predict(specialist[r.test], alm["test"])]
    for part, rows in (("dev", r.dev), ("test", r.test)):
        done.weight_curve[part] = {
            rule: [
                _ua(heard, rows, fuse(specialist[rows], alm[part], w, rule, heard.inside)) for w in WEIGHTS
            ]
            for rule in RULES
        }
    if svm is not None:
        everywhere = np.ones(len(heard.labels), bool)
        on_dev = fused(heard, r.dev, chosen)
        best = max(
            product(WEIGHTS, RULES),  # the first of equals: the least of the SVM
            key=lambda wr: round(
                _ua(heard, r.dev, fuse(on_dev, svm[r.dev], wr[0], wr[1], everywhere)) / _SAME
            ),
        )
        weight, rule = float(best[0]), best[1]
        done.posteriors[FUSED_SVM] = [fuse(done.posteriors[FUSED][0], svm[r.test], weight, rule, everywhere)]
        done.choices[FUSED_SVM] = {"w": weight, "rule": rule}


def fused(heard: Heard, rows: NDArray, chosen: Fusion) -> NDArray[np.float64]:
    """Return the posteriors (rows, C) of a fusion."""
    assert heard.specialist is not None
    alm = alm_posterior(heard, rows, chosen.amplified)
    return fuse(heard.specialist[rows], alm, chosen.weight, chosen.rule, heard.inside)


def _told(fusion: Fusion) -> dict[str, Any]:
    used = fusion.amplified
    told = {
        "w": fusion.weight,
        "rule": fusion.rule,
        "a": used.a,
        "b": used.b,
        "temperature": used.temperature,
    }
    return told if fusion.dev_ua is None else told | {"dev_ua": fusion.dev_ua}


def _simple_first(heard: Heard) -> Iterator[Amplified]:
    """Every (a, b) at temperature 1, the fewest copies first."""
    pairs = product(heard.audio_repeats, heard.text_repeats)
    return (Amplified(a, b, 1.0) for a, b in sorted(pairs, key=lambda ab: (ab[0] * ab[1], ab)))


def _ua(heard: Heard, rows: NDArray, posteriors: NDArray) -> float:
    return ua(heard.targets[rows], posteriors.argmax(axis=1), len(heard.labels))
