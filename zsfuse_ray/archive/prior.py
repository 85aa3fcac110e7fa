"""Prior correction over an archive (``--prior``): posteriors of a sample of its segments, and their biases.

Each part contributes a bounded sample, so that time and memory do not grow with the archive. A part counts by
its speech time and a segment within it by its duration, so shares are of speech time, as in recordings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.parts import (
    LabelTask,
    model_outputs,
    place_segments,
    planned_recordings,
    sums_for,
    without_dropped,
)
from zsfuse_ray.archive.plan import Part, Plan
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.method.labelling import Labelling, Posteriors, fused_posteriors, model_posteriors
from zsfuse_ray.method.prior import Prior, biased, fit_biases

SAMPLE = 100_000  # segments of all parts together: a share is exact to about 0.2 %
NEARLY = 0.005  # difference of a share from the wanted one that no percent shows


@dataclass(frozen=True, eq=False)
class Sample:
    """The posteriors of n segments before fusion, (n, C) by their names in `Posteriors`.

    segment_ids: (n,); weights: (n,), the seconds of speech that each stands for.
    """

    segment_ids: NDArray[np.int64]
    weights: NDArray[np.float64]
    posteriors: Mapping[str, NDArray[np.float64]]

    @classmethod
    def joined(cls, parts: Sequence["Sample"]) -> "Sample":
        """All segments of one or more samples by id, so that the order of the samples has no effect."""
        whole = cls(
            np.concatenate([one.segment_ids for one in parts]),
            np.concatenate([one.weights for one in parts]),
            {kind: np.concatenate([one.posteriors[kind] for one in parts]) for kind in parts[0].posteriors},
        )
        return whole._take(np.argsort(whole.segment_ids))

    def lowest(self, most: int) -> "Sample":
        """The segments with the lowest hashes of their ids, at most this many."""
        return self if len(self.segment_ids) <= most else self._take(_lowest(self.segment_ids, most))

    def _take(self, rows: NDArray[np.int64]) -> "Sample":
        posteriors = {kind: values[rows] for kind, values in self.posteriors.items()}
        return Sample(self.segment_ids[rows], self.weights[rows], posteriors)


def part_sample(task: LabelTask, part: Part) -> Sample | None:
    """The posteriors of the part's segments with the lowest hashes of their ids; None without segments."""
    assert task.labelling is not None
    most = rows_of_part(task.plan)
    recordings = planned_recordings(task.plan, part)
    sums = sums_for(task, part, recordings)
    pieces: list[Sample] = []
    seconds = []
    for rows in read_part(task.encoded, part, task.wanted, task.reads_vectors):
        rows = without_dropped(rows, part)
        if not len(rows.segments):
            continue
        placed, source = place_segments(rows, recordings)
        lengths = placed["end_s"].to_numpy() - placed["start_s"].to_numpy()
        segment_ids = placed["segment_id"].to_numpy()
        chosen = _lowest(segment_ids, most)
        outputs = model_outputs(rows, source, task, sums)
        some = (None if values is None else values[chosen] for values in outputs)
        posteriors = model_posteriors(task.labelling, *some).given()
        pieces.append(Sample(segment_ids[chosen], lengths[chosen], posteriors))
        seconds.append(lengths)
        if sum(len(one.weights) for one in pieces) > 2 * most:
            pieces = [Sample.joined(pieces).lowest(most)]
    if not pieces:
        return None
    sample = Sample.joined(pieces).lowest(most)
    # exact sums, because the order of the rows in encoded/ depends on the run
    speech_s, own_s = (math.fsum(values) for values in (np.concatenate(seconds), sample.weights))
    return replace(sample, weights=sample.weights * (speech_s / own_s))


def rows_of_part(plan: Plan) -> int:
    """The largest number of segments that are sampled from a part."""
    return max(1, SAMPLE // max(1, sum(len(increment.parts) for increment in plan.increments)))


def fit_prior(labelling: Labelling, prior: Prior, sample: Sample | None) -> dict[str, Any]:
    """Fit the biases of the ALM's posteriors and then of the fused ones; what run.json records of them.

    wanted: shares by label; segments_sampled; alm, fused (with two models, or a specialist alone): their
    biases, and their mean by label before (without any biases) and after.
    """

    def named(values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(labelling.labels, values.tolist(), strict=True))

    record: dict[str, Any] = {"wanted": named(prior.shares), "strength": prior.strength}
    record["segments_sampled"] = 0 if sample is None else len(sample.segment_ids)
    if sample is None:
        return record
    weights = sample.weights / sample.weights.sum()

    def fitted(
        before: NDArray[np.float64], partly: NDArray[np.float64]
    ) -> tuple[dict[str, Any], NDArray[np.float64]]:
        """The record of one stage, and its posteriors; partly: with the biases of earlier stages."""
        biases = prior.strength * fit_biases(partly, weights, prior.shares)
        after = biased(partly, biases)
        shares = {"before": named(weights @ before), "after": named(weights @ after)}
        return {"biases": named(biases), **shares}, after

    models = moved = Posteriors(**sample.posteriors)
    if models.alm is not None:
        record["alm"], alm = fitted(models.alm, models.alm)
        moved = replace(models, alm=alm)
    if models.specialist is not None:
        before = fused_posteriors(labelling, models)
        record["fused"], _ = fitted(before, fused_posteriors(labelling, moved))
    return record


def with_biases(labelling: Labelling, record: Mapping[str, Any]) -> Labelling:
    """The labelling with the biases that `fit_prior` recorded."""
    found = {
        f"{stage}_biases": np.array([record[stage]["biases"][label] for label in labelling.labels])
        for stage in ("alm", "fused")
        if stage in record
    }
    return replace(labelling, **found)


def prior_lines(run: Mapping[str, Any]) -> list[str]:
    """What --prior did: the mean posterior of each label without and with it, and how far it stays off."""
    if (prior := run.get("prior")) is None:
        return []
    strength = "" if prior["strength"] == 1 else f" at strength {prior['strength']:g}"
    title = f"prior {'uniform' if run['config']['prior'] == 'uniform' else 'given'}{strength}"
    done = prior.get("fused", prior.get("alm"))
    if done is None:
        return [f"{title}: no segments"]
    before, after = done["before"], done["after"]
    largest = sorted(before, key=lambda name: -before[name])
    shares = ", ".join(f"{name} {before[name]:.0%} → {after[name]:.0%}" for name in largest)
    sampled = f"{prior['segments_sampled']:,} segments sampled"
    lines = [f"{title}, mean posterior by speech time: {shares} ({sampled})"]
    far = {name: share for name, share in prior["wanted"].items() if abs(after[name] - share) > NEARLY}
    if far and prior["strength"] == 1:
        names = ", ".join(f"{name} {share:.0%}" for name, share in far.items())
        lines.append(f"prior: no biases of the labels give {names}")
    return lines


def _lowest(segment_ids: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The places of the ids with the lowest hashes, at most this many: random, but equal in every run."""
    with np.errstate(over="ignore"):  # the finaliser of SplitMix64 (Steele, Lea & Flood 2014)
        x = segment_ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.argsort(x)[:most]
