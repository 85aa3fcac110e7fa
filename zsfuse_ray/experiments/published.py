"""Published accuracies, to be shown beside own ones with the protocol that they were measured in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published UA, 0 to 1, and how it was measured."""

    system: str
    ua: float
    how: str


_EMOBOX = "EmoBox (Ma et al. 2024), frozen encoder, trained head"
_FOLDS = {
    "ravdess": "6 folds of 4 unseen actors",
    "iemocap": "5 folds, a session each",
    "emodb": "5 random folds: every speaker is in training and test",
    "crema_d": "one split",
    "msp_podcast": "one split",
}
_FROZEN = {
    "WavLM-Large": {
        "ravdess": 0.720,
        "iemocap": 0.695,
        "emodb": 0.926,
        "crema_d": 0.745,
        "msp_podcast": 0.186,
    },
    "Whisper-Large-v3": {
        "ravdess": 0.753,
        "iemocap": 0.735,
        "emodb": 0.913,
        "crema_d": 0.768,
        "msp_podcast": 0.222,
    },
}


def published(corpus: str) -> list[Published]:
    """Published results on a corpus; empty if none are known here."""
    return [
        Published(system, ua[corpus], f"{_EMOBOX}; {_FOLDS[corpus]}")
        for system, ua in _FROZEN.items()
        if corpus in ua
    ]
