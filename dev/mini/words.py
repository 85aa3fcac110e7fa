"""How far the ALM understands words and templates that its captions do not have."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dev.mini.choices import outputs
from dev.mini.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN
from dev.mini.heads import Clips, fit
from zsfuse_ray.method.labels import SYNONYMS
from zsfuse_ray.method.metrics import ua

TIMES = 10  # banks with other words, one for each label


def banks(alm: Any, labels: tuple[str, ...]) -> dict[str, list[NDArray[np.float32]]]:
    """Return prompt banks (P, labels, D): the labels in templates of the captions; and in unseen templates
    the labels, common words that no caption has, and words that the text encoder was not trained on.
    """

    def bank(words: Mapping[str, str], templates: tuple[str, ...]) -> NDArray[np.float32]:
        texts = [template.replace("{}", words[label]) for template in templates for label in labels]
        return alm.embed_text(texts)[0].numpy().reshape(len(templates), len(labels), -1)

    uncaptioned = {k: [word for word in LEARNED[k] if word not in SYNONYMS[k]] for k in labels}
    same = {label: label for label in labels}
    found = {
        "seen": [bank(same, TEMPLATES_LEARNED)],
        "unseen templates": [bank(same, TEMPLATES_UNSEEN)],
    }
    for name, words in (("uncaptioned words", uncaptioned), ("unseen words", UNSEEN)):
        found[name] = [
            bank({k: words[k][n % len(words[k])] for k in labels}, TEMPLATES_UNSEEN) for n in range(TIMES)
        ]
    return found


def measure_words(
    clips: Clips,
    split: NDArray[np.str_],
    captions: Mapping[str, NDArray[np.float32]],
    of_words: Mapping[str, list[NDArray[np.float32]]],
    hidden: int,
    seed: int,
) -> dict[str, float]:
    """Return the ALM's UA on dev speakers, the mean over corpora, by kind of words.

    split: (n,); the heads are trained on the train speakers only.
    """
    heads, dev = fit(clips.of(split == "train"), captions, hidden, seed), clips.of(split == "dev")

    def mean_ua(bank: NDArray[np.float32]) -> float:
        guesses = outputs(heads, dev, bank).alm(dev.possible, 1.0).argmax(axis=1)
        own = [dev.corpora == corpus for corpus in np.unique(dev.corpora)]
        return float(np.mean([ua(dev.targets[rows], guesses[rows], len(dev.labels)) for rows in own]))

    return {name: float(np.mean([mean_ua(bank) for bank in some])) for name, some in of_words.items()}
