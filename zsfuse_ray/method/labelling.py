"""Convert model outputs for segments to columns of the segments table.

Archive runs, runs from stored embeddings and `Labeller` all label here: a new column is added only in
`label_columns`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.calibration import tempered
from zsfuse_ray.method.concat import Concat, zero_shot_scores
from zsfuse_ray.method.fusion import Rule, entropy, fuse, mass_outside, specialist_on_labels
from zsfuse_ray.method.head import Head
from zsfuse_ray.method.labels import UNSURE, column, map_labels
from zsfuse_ray.method.prior import biased
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.method.zeroshot import Ensemble, Scores, posterior


@dataclass(frozen=True, eq=False)
class Labelling:
    """Everything needed to turn model outputs into posteriors and labels; computed once per run.

    text: (P, C, D), prompt embeddings for all text repeats, None without an ALM; scale: its logit scale.
    specialist_labels: the specialist's own, in the order of its logits, or those of the head; None without a
    specialist.
    unsure_below: a segment whose confidence is below this is labelled UNSURE; 0 labels every segment.
    temperature, specialist_temperature: of the two models' softmax; fused_temperature: applied after fusion.
    readout: the heads to apply to normalised vectors; None uses the encoded logits and embeddings. head:
    corrects the specialist's logits by its vectors, None for a specialist as it is. concat: a trained fusion,
    which replaces the rule and the weight; None without one.
    alm_biases, fused_biases: (C,), of the log posteriors, for `--prior`; the ALM's before fusion, the others
    last of all; None without a prior.
    """

    labels: tuple[str, ...]
    text: NDArray[np.float32] | None
    scale: float
    specialist_labels: tuple[str, ...] | None
    ensemble: Ensemble
    temperature: float
    fusion: Rule
    weight: float
    unsure_below: float = 0.0
    specialist_temperature: float = 1.0
    fused_temperature: float = 1.0
    readout: Readout | None = None
    head: Head | None = None
    concat: Concat | None = None
    alm_biases: NDArray[np.float64] | None = None
    fused_biases: NDArray[np.float64] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Possible values of the column label: the label set, and UNSURE if there is a threshold."""
        return (*self.labels, UNSURE) if self.unsure_below else self.labels

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which labels the specialist covers, (C,)."""
        if self.specialist_labels is None:
            return np.zeros(len(self.labels), bool)
        return np.logical_or.reduce(map_labels(self.specialist_labels, self.labels), axis=0)

    @property
    def drops(self) -> bool:
        """Whether the specialist has labels outside the set, whose probability is dropped."""
        own = self.specialist_labels
        return own is not None and not map_labels(own, self.labels).any(axis=1).all()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of `label_columns`, in their order."""
        names = ["label", "confidence", "entropy", *(f"p_{column(label)}" for label in self.labels)]
        if self.specialist_labels is not None:
            covered = zip(self.labels, self.inside, strict=True)
            names += [f"specialist_{column(label)}" for label, inside in covered if inside]
        if self.text is not None:
            names += [f"alm_{column(label)}" for label in self.labels]
        return tuple(names)


@dataclass(frozen=True, eq=False)
class Posteriors:
    """The posteriors (n, C) of n segments before fusion; None of a model that is not used.

    trained: of the trained fusion, which reads the models' outputs instead of their posteriors.
    """

    specialist: NDArray[np.float64] | None = None
    alm: NDArray[np.float64] | None = None
    trained: NDArray[np.float64] | None = None

    def given(self) -> dict[str, NDArray[np.float64]]:
        """Those that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def posteriors(
    labelling: Labelling,
    embeddings: NDArray[np.floating] | None,
    logits: NDArray[np.floating] | None,
    vectors: NDArray[np.floating] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return the fused, the specialist's and the ALM's posteriors of n segments, each (n, C).

    Arguments as of `model_posteriors`; posteriors of a missing model are None. The ALM's have its biases.
    """
    models = model_posteriors(labelling, embeddings, logits, vectors)
    alm = None if models.alm is None else biased(models.alm, labelling.alm_biases)
    return fused_posteriors(labelling, replace(models, alm=alm)), models.specialist, alm


def model_posteriors(
    labelling: Labelling,
    embeddings: NDArray[np.floating] | None,
    logits: NDArray[np.floating] | None,
    vectors: NDArray[np.floating] | None,
) -> Posteriors:
    """Return the posteriors of n segments, without biases.

    embeddings: (n, A, D), normalised, of A amplifications, whose scores are averaged; logits: (n, S), the
    specialist's; vectors: (n, V), for the head, the trained fusion and, normalised, the readout. Arguments
    of a missing model are None.
    """
    alm = specialist = trained = None
    if labelling.text is not None:
        read = _read_embeddings(labelling, embeddings, vectors)
        alm = posterior(read, labelling.text, labelling.scale, labelling.ensemble, labelling.temperature)
    if labelling.specialist_labels is not None:
        mapping = map_labels(labelling.specialist_labels, labelling.labels)
        logits = _read_logits(labelling, logits, vectors)
        specialist = specialist_on_labels(logits, mapping, labelling.specialist_temperature)
    if (concat := labelling.concat) is not None:
        scores = zero_shot_inputs(labelling, embeddings, vectors, concat.scores, concat.per_prompt)
        trained = concat.predict(_needed(vectors), scores)
    return Posteriors(specialist, alm, trained)


def zero_shot_inputs(
    labelling: Labelling,
    embeddings: NDArray[np.floating] | None,
    vectors: NDArray[np.floating] | None,
    scores: Scores,
    per_prompt: bool,
) -> NDArray[np.float64]:
    """Return the zero-shot scores that a trained fusion reads, see `zero_shot_scores`.

    embeddings, vectors: as of `model_posteriors`.
    """
    if labelling.text is None:
        raise ValueError("a trained fusion needs prompts")
    read = _read_embeddings(labelling, embeddings, vectors)
    return zero_shot_scores(read, labelling.text, labelling.scale, scores, labelling.ensemble, per_prompt)


def outside_share(
    labelling: Labelling, logits: NDArray[np.floating] | None, vectors: NDArray[np.floating] | None
) -> NDArray[np.float64] | None:
    """Return the share (n,) of the specialist's probability that is on labels outside the set, and dropped.

    Arguments as of `model_posteriors`. None if no label of the specialist is outside.
    """
    if labelling.specialist_labels is None or not labelling.drops:
        return None
    mapping = map_labels(labelling.specialist_labels, labelling.labels)
    logits = _read_logits(labelling, logits, vectors)
    return mass_outside(logits, mapping, labelling.specialist_temperature)


def _read_embeddings(
    labelling: Labelling, embeddings: NDArray[np.floating] | None, vectors: NDArray[np.floating] | None
) -> NDArray[np.floating]:
    """The ALM's embeddings: those encoded, or of normalised vectors."""
    if labelling.readout is not None and labelling.readout.projection is not None:
        return labelling.readout.embeddings(_needed(vectors))[:, None]
    if embeddings is None:
        raise ValueError("a labelling with prompts needs embeddings")
    return embeddings


def _read_logits(
    labelling: Labelling, logits: NDArray[np.floating] | None, vectors: NDArray[np.floating] | None
) -> NDArray[np.floating]:
    """The specialist's logits: those encoded, or of normalised vectors; with a head, corrected by it."""
    if labelling.readout is not None and labelling.readout.classifier is not None:
        logits = labelling.readout.logits(_needed(vectors))
    if logits is None:
        raise ValueError("a labelling with a specialist needs logits")
    return logits if labelling.head is None else labelling.head.logits(logits, _needed(vectors))


def _needed(vectors: NDArray[np.floating] | None) -> NDArray[np.floating]:
    if vectors is None:
        raise ValueError("a labelling of vectors, normalised or by a head, needs vectors")
    return vectors


def fused_posteriors(labelling: Labelling, models: Posteriors) -> NDArray[np.float64]:
    """Return the fused posteriors (n, C), with their biases, of the models'; the ALM's already have theirs.

    With a single model they are that model's: the temperature after fusion is not applied. InputError for
    posteriors that are not finite: argmax would label all of these segments with the first label.
    """
    specialist, alm = models.specialist, models.alm
    if models.trained is not None:
        fused = tempered(models.trained, labelling.fused_temperature)
    elif alm is not None and specialist is not None:
        fused = fuse(specialist, alm, labelling.weight, labelling.fusion, labelling.inside)
        fused = tempered(fused, labelling.fused_temperature)
    else:
        fused = specialist if alm is None else alm
    if fused is None:
        raise ValueError("a labelling needs at least one model")
    fused = biased(fused, labelling.fused_biases)
    for name, values in (("fused", fused), ("specialist's", specialist), ("ALM's", alm)):
        if values is not None and (bad := int((~np.isfinite(values)).any(axis=1).sum())):
            raise InputError(
                f"the {name} posteriors of {bad} of {len(values)} segments are not finite: the models' "
                "outputs or the temperatures are out of range; use another checkpoint or other temperatures"
            )
    return fused


def label_columns(
    labelling: Labelling,
    embeddings: NDArray[np.floating] | None,
    logits: NDArray[np.floating] | None,
    vectors: NDArray[np.floating] | None,
) -> dict[str, NDArray[Any]]:
    """Return the columns of n segments, each (n,), see `posteriors` for the arguments.

    label (strings), confidence (the label's score), entropy (nats) and p_LABEL of the fused posterior;
    specialist_LABEL for the labels it covers; alm_LABEL. All but label are float32. Ties go to the first
    label. The confidence of an unsure segment is its highest score.
    """
    fused, specialist, alm = posteriors(labelling, embeddings, logits, vectors)
    labels = np.array(labelling.labels, dtype=object)[fused.argmax(axis=1)]
    confidence = fused.max(axis=1)
    labels[confidence < labelling.unsure_below] = UNSURE
    values: list[NDArray[Any]] = [labels, confidence, entropy(fused), *fused.T]
    if specialist is not None:
        values += [*specialist.T[labelling.inside]]
    if alm is not None:
        values += [*alm.T]
    return {
        name: array if array.dtype == object else array.astype(np.float32)
        for name, array in zip(labelling.column_names, values, strict=True)
    }
