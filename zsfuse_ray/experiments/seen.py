"""Corpora that a model names as its training data: figures on them may be in-sample."""

from collections.abc import Iterable, Mapping
from typing import Any


def seen_in_training(corpora: Iterable[str | None], cards: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a sentence for each corpus that the card of a model names, by the corpus.

    cards: of the models, with their `trained_on`. A card does not say which of its speakers were in training.
    """
    found = {}
    for corpus in sorted({name for name in corpora if name}):
        known = [
            card["model"]
            for card in cards.values()
            if corpus.lower() in {data.lower() for data in card.get("trained_on", ())}
        ]
        if known:
            models = " and ".join(dict.fromkeys(known))
            found[corpus] = (
                f"{models}: trained on {corpus}; for clips of speakers in training, "
                "accuracy and calibration here are too good, and so is a choice made on them"
            )
    return found
