"""How the heads' outputs become fused posteriors: temperatures and weight by cross-validation.

The clips of each training speaker are labelled by heads trained on other speakers, and by heads trained on
other corpora: a user's archive resembles the second more. Both count alike, and so do all corpora. Clips are
classified among the labels of their corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound

from dev.mini.heads import Clips, Heads, fit
from zsfuse_ray.method.calibration import tempered
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.prior import biased, fit_biases
from zsfuse_ray.method.zeroshot import scores, softmax

FOLDS = 7
MODES = ("none", "speaker")  # of --normalise; the choices are made for both together
WEIGHTS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Choice:
    """Options of ``zsfuse score`` for the shipped models."""

    weight: float
    temperature: float
    specialist_temperature: float
    fused_temperature: float


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of the heads for n clips: the specialist's logits and the ALM's scores, both (n, labels).

    known: (n, labels), those the specialist was trained on.
    """

    logits: NDArray[np.float64]
    scores: NDArray[np.float64]
    known: NDArray[np.bool_]

    def specialist(self, possible: NDArray[np.bool_], temperature: float) -> NDArray[np.float64]:
        """Posteriors (n, labels) among the known of the possible labels (n, labels) of each clip."""
        return softmax(np.where(possible & self.known, self.logits, -np.inf) / temperature)

    def alm(self, possible: NDArray[np.bool_], temperature: float) -> NDArray[np.float64]:
        """Posteriors (n, labels) of the ALM among the possible labels."""
        return softmax(np.where(possible, self.scores, -np.inf) / temperature)

    def pooled(self, possible: NDArray[np.bool_], choice: Choice) -> NDArray[np.float64]:
        """Fused posteriors before their temperature."""
        models = (
            self.specialist(possible, choice.specialist_temperature),
            self.alm(possible, choice.temperature),
        )
        fused = np.empty_like(models[0])
        kinds, kind_of = np.unique(self.known, axis=0, return_inverse=True)
        for kind, known in enumerate(kinds):
            own = kind_of.ravel() == kind
            fused[own] = fuse(models[0][own], models[1][own], choice.weight, "linear", known)
        return fused

    def fused(
        self, possible: NDArray[np.bool_], choice: Choice, prior: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Fused posteriors. prior: (labels,), wanted shares, as of ``score --prior``."""
        if prior is None:
            return tempered(self.pooled(possible, choice), choice.fused_temperature)

        def moved(posteriors: NDArray[np.float64]) -> NDArray[np.float64]:
            wanted = np.maximum(prior, 1e-9)
            return biased(posteriors, fit_biases(posteriors, np.ones(len(posteriors)), wanted))

        with np.errstate(divide="ignore"):
            of_alm = replace(self, scores=np.log(moved(self.alm(possible, choice.temperature))))
        return moved(of_alm.fused(possible, replace(choice, temperature=1.0)))


def outputs(
    heads: Heads, clips: Clips, bank: NDArray[np.float32], groups: Sequence[str] | None = None
) -> Outputs:
    """Apply heads to clips, with vectors normalised by groups (n,) if given.

    bank: (P, labels, D), normalised embeddings of the prompts.
    """
    vectors = heads.standardised(clips.vectors)
    if groups is not None:
        vectors = normalised(vectors, groups)
    known = np.tile(heads.known, (len(vectors), 1))
    similarities = scores(heads.embeddings(vectors), bank, np.exp(heads.log_scale))
    return Outputs(heads.logits(vectors).astype(np.float64), similarities, known)


def crossed(
    clips: Clips,
    captions: Mapping[str, NDArray[np.float32]],
    bank: NDArray[np.float32],
    hidden: int,
    seed: int,
    n_folds: int = FOLDS,
) -> list[dict[str, Outputs]]:
    """Return, by mode, outputs for all clips of heads trained on other speakers, and other corpora if any."""
    by = [folds(clips, n_folds), clips.corpora]
    if len(np.unique(clips.corpora)) == 1:
        by.pop()
    return [held_out(clips, fold, captions, bank, hidden, seed) for fold in by]


def held_out(
    clips: Clips,
    fold: NDArray[np.int64],
    captions: Mapping[str, NDArray[np.float32]],
    bank: NDArray[np.float32],
    hidden: int,
    seed: int,
) -> dict[str, Outputs]:
    """Return, by mode, outputs for all clips of heads trained on the other folds; fold: (n,)."""
    found = {mode: np.zeros((2, len(clips.targets), len(clips.labels))) for mode in MODES}
    known = np.zeros((len(clips.targets), len(clips.labels)), bool)
    for number in np.unique(fold):
        held = fold == number
        heads = fit(clips.of(~held), captions, hidden, seed)
        part, known[held] = clips.of(held), heads.known
        for mode in MODES:
            own = outputs(heads, part, bank, speakers_of(part) if mode == "speaker" else None)
            found[mode][0][held], found[mode][1][held] = own.logits, own.scores
    return {mode: Outputs(values[0], values[1], known) for mode, values in found.items()}


def folds(clips: Clips, n_folds: int = FOLDS) -> NDArray[np.int64]:
    """Return the fold (n,) of each clip; the speakers of each corpus are spread over the folds."""
    fold = np.empty(len(clips.targets), np.int64)
    for corpus in np.unique(clips.corpora):
        own = clips.corpora == corpus
        fold[own] = np.unique(clips.speakers[own], return_inverse=True)[1] % n_folds
    return fold


def speakers_of(clips: Clips) -> list[str]:
    """The speakers of clips as names of groups."""
    return [str(speaker) for speaker in clips.speakers]


def choose(clips: Clips, found: Sequence[Mapping[str, Outputs]]) -> Choice:
    """Return the choices with the least negative log-likelihood (NLL) on clips.

    found: outputs by mode, see `crossed`; all count alike. First the temperature of each model is chosen,
    then the weight, then the temperature after fusion.
    """
    every = [own for by_mode in found for own in by_mode.values()]
    possible = clips.possible
    share = np.array([np.mean(clips.corpora == corpus) for corpus in clips.corpora])

    def loss(posteriors: NDArray[np.float64]) -> float:
        right = posteriors[np.arange(len(clips.targets)), clips.targets]
        return float(-(np.log(np.maximum(right, 1e-12)) / share).mean())

    def best(posteriors: Sequence[NDArray[np.float64]]) -> float:
        def mean_loss(log_t: float) -> float:
            return sum(loss(tempered(values, float(np.exp(log_t)))) for values in posteriors)

        return round(float(np.exp(fminbound(mean_loss, *np.log([0.1, 10]), xtol=1e-3))), 2)

    specialist = best([own.specialist(possible, 1.0) for own in every])
    alm = best([own.alm(possible, 1.0) for own in every])

    def at(weight: float) -> list[NDArray[np.float64]]:
        return [own.pooled(possible, Choice(weight, alm, specialist, 1.0)) for own in every]

    weight = round(float(min(WEIGHTS, key=lambda w: sum(map(loss, at(float(w)))))), 2)
    return Choice(weight, alm, specialist, best(at(weight)))
