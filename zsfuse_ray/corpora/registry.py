"""Registry of the known corpora: to add one, write a reader and add a record here."""

from collections.abc import Callable
from dataclasses import dataclass

from zsfuse_ray.corpora import filenames, labelfiles
from zsfuse_ray.corpora.filenames import Clip
from zsfuse_ray.corpora.folder import Folder


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    read: folder -> clips, empty if the folder does not contain the corpus; looks_for: what it looks for, for
    the error message. licence: the publisher's terms. labels: its usual label set, in the words and order of
    its metadata. merged: classes that the reader merges, as in the usual protocol. shares_speakers: its own
    splits have speakers in common, which causes a warning instead of an error.
    """

    name: str
    read: Callable[[Folder], list[Clip]]
    looks_for: str
    licence: str
    labels: tuple[str, ...]
    merged: str = "none"
    shares_speakers: bool = False


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "ravdess",
            filenames.read_ravdess,
            "speech named like 03-01-05-02-01-01-12.wav",
            "CC BY-NC-SA 4.0, non-commercial",
            ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        ),
        Corpus(
            "emodb",
            filenames.read_emodb,
            "audio named like 03a01Fa.wav",
            "free for research",
            ("angry", "boredom", "disgust", "fearful", "happy", "sad", "neutral"),
        ),
        Corpus(
            "crema_d",
            filenames.read_crema_d,
            "audio named like 1001_DFA_ANG_XX.wav",
            "Open Database License",
            ("angry", "disgust", "fear", "happy", "neutral", "sad"),
        ),
        Corpus(
            "nemo",
            filenames.read_nemo,
            "audio named like SM0_happiness_12.wav",
            "CC BY-NC-SA 4.0, non-commercial",
            ("anger", "fear", "happiness", "neutral", "sadness", "surprised"),
        ),
        Corpus(
            "tess",
            filenames.read_tess,
            "audio named like OAF_back_angry.wav",
            "CC BY-NC-ND 4.0, non-commercial",
            ("angry", "disgust", "fear", "happy", "neutral", "pleasant surprise", "sad"),
        ),
        Corpus(
            "iemocap",
            labelfiles.read_iemocap,
            "SessionN/dialog/EmoEvaluation/Ses*.txt",
            "by agreement with USC, research",
            ("angry", "happy", "neutral", "sad"),
            merged="excited counts as happy",
        ),
        Corpus(
            "msp_podcast",
            labelfiles.read_msp_podcast,
            "labels_consensus.csv",
            "by agreement with UT Dallas",
            ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"),
        ),
        Corpus(
            "meld",
            labelfiles.read_meld,
            "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv",
            "GPL-3.0, taken from a television series",
            ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"),
            shares_speakers=True,
        ),
    )
}


def licences() -> dict[str, str]:
    """Return the terms of each corpus, by its name."""
    return {name: corpus.licence for name, corpus in CORPORA.items()}
