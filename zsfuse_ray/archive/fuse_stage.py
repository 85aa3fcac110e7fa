"""Embeddings and logits → posteriors → fusion: vectorised arithmetic in tiny tasks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.rows import SCORED
from zsfuse_ray.method.fusion import Rule, entropy, fuse, specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.zeroshot import Ensemble, posterior, softmax


@dataclass(frozen=True)
class Scorer:
    """All that turns embeddings and logits into posteriors: computed once a run and sent to every task.

    ``text`` has shape (prompts, labels, dim), ``specialist_labels`` are the checkpoint's own.
    """

    labels: tuple[str, ...]
    text: NDArray[np.float32] | None
    scale: float
    audio_repeats: int
    specialist_labels: tuple[str, ...] | None
    ensemble: Ensemble
    temperature: float
    fusion: Rule
    weight: float

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which labels the specialist knows, shape (labels,)."""
        if self.specialist_labels is None:
            return np.zeros(len(self.labels), bool)
        return np.any(map_labels(self.specialist_labels, self.labels), axis=0)

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the labels the specialist knows."""
        return tuple(label for label, inside in zip(self.labels, self.inside, strict=True) if inside)

    def posteriors(
        self, embeddings: NDArray[np.float32] | None, logits: NDArray[np.float32] | None
    ) -> tuple[NDArray, NDArray | None, NDArray | None]:
        """Fused, specialist and ALM posterior of each segment over the label set, each (segments, labels)."""
        alm = specialist = None
        if embeddings is not None and self.text is not None:
            alm = posterior(embeddings, self.text, self.scale, self.ensemble, self.temperature)
        if logits is not None and self.specialist_labels is not None:
            specialist = specialist_on_labels(
                softmax(logits), map_labels(self.specialist_labels, self.labels)
            )
            if alm is not None:
                return fuse(specialist, alm, self.weight, self.fusion, self.inside), specialist, alm
            return specialist, specialist, None
        assert alm is not None, "a run has at least one model"
        return alm, None, alm

    def __call__(self, batch: pa.Table) -> pa.Table:
        """ENCODED rows → SCORED rows."""
        return pa.Table.from_pylist([self._score(row) for row in batch.to_pylist()], schema=SCORED)

    def _score(self, row: dict[str, Any]) -> dict[str, Any]:
        segments = row["segments"]
        if segments:
            n = len(segments)
            embeddings = logits = None
            if self.text is not None:
                embeddings = np.frombuffer(row["embeddings"], np.float32).reshape(n, self.audio_repeats, -1)
            if self.specialist_labels is not None:
                logits = np.frombuffer(row["logits"], np.float32).reshape(n, -1)
            fused, specialist, alm = self.posteriors(embeddings, logits)
            # of what the models gave: the specialist's posterior is uniform where it has nothing to say
            given = np.hstack([x.reshape(n, -1) for x in (embeddings, logits) if x is not None])
            finite = np.all(np.isfinite(given), axis=1)
            surprise = entropy(fused)
            for i, segment in enumerate(segments):
                best = int(np.argmax(fused[i]))
                segment |= {"label": self.labels[best], "confidence": fused[i, best], "entropy": surprise[i]}
                segment |= {"p": fused[i], "specialist": _row(specialist, i), "alm": _row(alm, i)}
            segments = drop_broken(row, finite)
        return {name: row[name] for name in SCORED.names} | {"segments": segments}


def drop_broken(row: dict[str, Any], finite: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return the segments of an ENCODED row that got finite values; the items of others become failures."""
    broken = {s["item_id"] for s, ok in zip(row["segments"], finite, strict=True) if not ok}
    failure = {
        "stage": "fuse",
        "reason": "not_finite",
        "message": "a model gave values that are not finite",
    }
    row["items"] = [item | failure if item["item_id"] in broken else item for item in row["items"]]
    return [s for s, ok in zip(row["segments"], finite, strict=True) if ok]


def _row(posteriors: NDArray | None, i: int) -> NDArray | None:
    return None if posteriors is None else posteriors[i]
