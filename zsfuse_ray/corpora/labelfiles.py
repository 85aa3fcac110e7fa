"""Corpora with labels in separate tables: IEMOCAP, MSP-Podcast, MELD."""

import logging
import os
import re
from collections import Counter

from zsfuse_ray.audio.files import is_sidecar
from zsfuse_ray.corpora.filenames import Clip
from zsfuse_ray.corpora.folder import Folder
from zsfuse_ray.errors import InputError, redact

logger = logging.getLogger(__name__)

# The usual four classes: 5,531 clips. Excitement counts as happiness.
IEMOCAP_CLASSES = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
MSP_CLASSES = tuple("ASHUFDCN")  # without O (other) and X (no agreement)
# an annotator's primary label -> its canonical name; others are "Other" or free text
MSP_VOTES = {
    "Angry": "angry",
    "Sad": "sad",
    "Happy": "happy",
    "Surprise": "surprised",
    "Fear": "fearful",
    "Disgust": "disgust",
    "Contempt": "contempt",
    "Neutral": "neutral",
}
_MELD_CAST = {
    **dict.fromkeys(("Chandler", "Joey", "Ross"), "male"),
    **dict.fromkeys(("Monica", "Phoebe", "Rachel"), "female"),
}
_MELD_SPLITS = {"train": r"train", "dev": r"dev|val", "test": r"test"}


def parse_iemocap(stem: str) -> Clip | None:
    """``Ses01F_impro04_M012``: session, wearer of the markers, dialogue, speaker and turn."""
    match = re.fullmatch(r"Ses0([1-5])[FM]_\w+_([FM])\w*\d+", stem)
    if not match:
        return None
    session, sex = match.groups()
    gender = "female" if sex == "F" else "male"
    return {"speaker": f"Ses0{session}{sex}", "gender": gender, "fold": int(session)}


def read_iemocap(folder: Folder) -> list[Clip]:
    """IEMOCAP (Busso et al. 2008): turns whose annotators agree on one of IEMOCAP_CLASSES; fold = session.

    Reads SessionN/dialog/EmoEvaluation/*.txt, the transcriptions if present, and the audio in
    SessionN/sentences/wav.
    """
    sentences: dict[str, str] = {}
    for path in folder.named(r"dialog/transcriptions/Ses[^/]*\.txt"):
        lines = re.finditer(r"^(Ses\S+) \[[\d.]+ ?- ?[\d.]+\]: ?(.*)$", folder.text(path), re.M)
        sentences.update((line[1], line[2].strip()) for line in lines)
    uris = {stem: uri for path, stem, uri in folder.audio() if "sentences/wav/" in path}
    clips, missing = [], []
    for path in folder.named(r"dialog/EmoEvaluation/Ses[^/]*\.txt"):
        for line in re.finditer(r"^\[[\d.]+ - [\d.]+\]\t(Ses\S+)\t(\w+)\t", folder.text(path), re.M):
            turn, label = line.groups()
            if label not in IEMOCAP_CLASSES or (parsed := parse_iemocap(turn)) is None:
                continue
            if turn not in uris:
                missing.append(turn)
                continue
            style = "improvised" if "_impro" in turn else "scripted"
            clip = {"uri": uris[turn], "emotion": IEMOCAP_CLASSES[label], "sentence": sentences.get(turn)}
            clips.append({**clip, **parsed, "style": style})
    _report_missing(folder, missing, len(clips))
    return clips


def read_msp_podcast(folder: Folder) -> list[Clip]:
    """MSP-Podcast: labels_consensus.csv, audio in any subfolder; eight classes (Lotfian and Busso 2019).

    All test sets become split ``test``; the column ``split_set`` has the corpus' own name (Test1, …). With
    labels_detailed.csv, which has a row for each annotator, the columns ``share_LABEL`` are the shares of the
    eight classes among the primary labels of a clip (null if none is among them): its soft label.
    """
    tables = folder.named(r"labels_consensus\.csv")
    if not tables:
        return []
    uris = {stem: uri for _, stem, uri in folder.audio()}
    shares = _shares(folder)
    clips, missing = [], []
    for row in folder.rows(tables[0], ("FileName", "EmoClass", "Split_Set")):
        if row["EmoClass"] not in MSP_CLASSES:
            continue
        stem = os.path.splitext(row["FileName"])[0]
        if stem not in uris:
            missing.append(stem)
            continue
        clip = {"uri": uris[stem], "emotion": row["EmoClass"], "speaker": row.get("SpkrID")}
        split = re.sub(r"\d+$", "", row["Split_Set"])  # Test1, Test2, … are all test
        clip |= {"gender": row.get("Gender"), "split": split, "split_set": row["Split_Set"]}
        clips.append(clip | shares.get(row["FileName"], {}))
    _report_missing(folder, missing, len(clips))
    return clips


def _shares(folder: Folder) -> dict[str, dict[str, float]]:
    """MSP-Podcast's soft labels by file name; empty without labels_detailed.csv."""
    tables = folder.named(r"labels_detailed\.csv")
    votes: dict[str, Counter[str]] = {}
    for row in folder.rows(tables[0], ("FileName", "EmoClass_Major")) if tables else ():
        if row["EmoClass_Major"] in MSP_VOTES:
            votes.setdefault(row["FileName"], Counter())[MSP_VOTES[row["EmoClass_Major"]]] += 1
    return {
        name: {f"share_{label}": of_clip[label] / of_clip.total() for label in MSP_VOTES.values()}
        for name, of_clip in votes.items()
    }


def read_meld(folder: Folder) -> list[Clip]:
    """MELD: {train,dev,test}_sent_emo.csv; diaN_uttM.* in folders named after the split (Poria et al. 2019).

    The same cast speaks in every split, so results are never speaker-independent.
    """
    clips, missing = [], []
    for split, pattern in _MELD_SPLITS.items():
        tables = folder.named(rf"{split}_sent_emo\.csv")
        if not tables:
            continue
        # File names repeat across splits; final_videos_testdia… are longer cuts and are ignored.
        uris = {
            os.path.splitext(os.path.basename(path))[0]: uri
            for path, uri in folder.files.items()
            if not is_sidecar(path) and re.search(pattern, os.path.dirname(path), re.I)
        }
        for row in folder.rows(tables[0], ("Utterance", "Emotion", "Speaker", "Dialogue_ID", "Utterance_ID")):
            stem = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            if stem not in uris:
                missing.append(f"{split}/{stem}")
                continue
            clip = {"uri": uris[stem], "emotion": row["Emotion"], "speaker": row["Speaker"], "split": split}
            clips.append(clip | {"gender": _MELD_CAST.get(row["Speaker"]), "sentence": row["Utterance"]})
    _report_missing(folder, missing, len(clips))
    return clips


def _report_missing(folder: Folder, missing: list[str], present: int) -> None:
    """Warn about labelled clips without audio; InputError if none has audio."""
    where = redact(folder.root)
    if missing and not present:
        raise InputError(
            f"{where}: none of {len(missing)} labelled clips has audio (looked for {missing[0]})"
        )
    if missing:
        logger.warning("%s: %d of %d labelled clips have no audio (%s, …) and are skipped",
                       where, len(missing), len(missing) + present, missing[0])  # fmt: skip
