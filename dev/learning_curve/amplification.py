"""UA of the ALM alone by copies of audio and prompt, on a corpus of which it has seen nothing."""

from typing import Any

import numpy as np

from dev.learning_curve.material import Repeated
from zsfuse_ray.experiments.intervals import interval
from zsfuse_ray.method import metrics


def grid(clips: Repeated, n_labels: int, resamples: int) -> dict[str, Any]:
    """Return UA of each (a, b) as "a,b", and its gain over (1, 1), with intervals over speakers."""
    speakers = clips.speakers.tolist()
    n_speakers = len(set(speakers))
    predicted = {copies: scores.argmax(axis=1) for copies, scores in clips.scores.items()}
    values = {copies: metrics.ua(clips.targets, each, n_labels) for copies, each in predicted.items()}
    drawn = {
        copies: metrics.drawn(clips.targets, each, speakers, n_labels, "ua", n=resamples)
        for copies, each in predicted.items()
    }
    return {
        f"{a},{b}": {
            "ua": interval(values[a, b], drawn[a, b], n_speakers),
            "gain": interval(values[a, b] - values[1, 1], drawn[a, b] - drawn[1, 1], n_speakers),
            "other_labels": float(np.mean(predicted[a, b] != predicted[1, 1])),
        }
        for a, b in predicted
    }
