"""Corpora whose metadata is in the file names.

``parse_NAME(stem)`` parses one file name into columns of a clip; None for a file that is not a clip of the
corpus. ``read_NAME`` adds metadata from other files.
"""

import re
from collections.abc import Callable
from typing import Any

from zsfuse_ray.corpora.folder import Folder

Clip = dict[str, Any]

_RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
# Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral
_EMODB = {
    "W": "angry",
    "L": "bored",
    "E": "disgust",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
_EMODB_MEN = ("03", "10", "11", "12", "15")
_CREMA_D_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": None}
_CREMA_D_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


def parse_ravdess(stem: str) -> Clip | None:
    """``03-01-05-02-01-01-12``: modality, channel, emotion, intensity, statement, repetition, actor.

    Livingstone and Russo 2018. Songs (channel 02) and video without sound (modality 02) are excluded.
    """
    match = re.fullmatch(r"0[13]-01-0([1-8])-0([12])-(0[12])-0([12])-(\d\d)", stem)
    if not match:
        return None
    emotion, intensity, statement, repetition, actor = match.groups()
    return {
        "emotion": _RAVDESS[int(emotion) - 1],
        "speaker": f"Actor_{actor}",
        "gender": "male" if int(actor) % 2 else "female",
        "sentence": _STATEMENTS[statement],
        "intensity": "strong" if intensity == "2" else "normal",
        "repetition": int(repetition),
    }


def parse_emodb(stem: str) -> Clip | None:
    """``03a01Fa``: speaker, text, emotion by its German initial, version (Burkhardt et al. 2005)."""
    match = re.fullmatch(r"(0[389]|1[0-6])([ab]\d\d)([WLEAFTN])[a-z]?", stem)
    if not match:
        return None
    speaker, text, emotion = match.groups()
    gender = "male" if speaker in _EMODB_MEN else "female"
    return {"emotion": _EMODB[emotion], "speaker": speaker, "gender": gender, "sentence": text}


def parse_crema_d(stem: str) -> Clip | None:
    """``1001_DFA_ANG_XX``: actor, sentence, emotion, level (Cao et al. 2014); excludes demonstrations."""
    match = re.fullmatch(r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)", stem)
    if not match:
        return None
    actor, sentence, emotion, level = match.groups()
    return {
        "emotion": emotion,
        "speaker": actor,
        "sentence": _CREMA_D_SENTENCES.get(sentence, sentence),
        "intensity": _CREMA_D_LEVELS.get(level),
    }


def parse_nemo(stem: str) -> Clip | None:
    """``SM0_happiness_12``: speaker, emotion, sentence (Christop 2024)."""
    emotions = "anger|fear|happiness|neutral|sadness|surprised"
    match = re.fullmatch(rf"([A-Z]{{2}}\d)_({emotions})_(\d+)", stem)
    return {"emotion": match[2], "speaker": match[1], "sentence": match[3]} if match else None


def parse_tess(stem: str) -> Clip | None:
    """``OAF_back_angry``: older or younger actress, word, emotion (Pichora-Fuller and Dupuis 2020).

    Two files of the corpus begin with ``OA_``; ``ps`` is pleasant surprise.
    """
    emotions = "angry|disgust|fear|happy|neutral|ps|sad"
    match = re.fullmatch(rf"(OAF|OA|YAF)_([a-z]+)_({emotions})", stem, re.I)
    if not match:
        return None
    speaker = "YAF" if match[1].upper() == "YAF" else "OAF"
    sentence = f"Say the word {match[2].lower()}"
    return {"emotion": match[3], "speaker": speaker, "gender": "female", "sentence": sentence}


def read_ravdess(folder: Folder) -> list[Clip]:
    """Return the speech of RAVDESS; audio-only files (03-…) are preferred to audio-video (01-…)."""
    clips = _parsed(folder, parse_ravdess)
    if any(stem.startswith("03") for stem in clips):
        return [clip for stem, clip in clips.items() if stem.startswith("03")]
    return list(clips.values())


def read_emodb(folder: Folder) -> list[Clip]:
    """Return the clips of EmoDB, the Berlin database of emotional speech."""
    return list(_parsed(folder, parse_emodb).values())


def read_tess(folder: Folder) -> list[Clip]:
    """Return the clips of TESS, the Toronto emotional speech set."""
    return list(_parsed(folder, parse_tess).values())


def read_crema_d(folder: Folder) -> list[Clip]:
    """Return the clips of CREMA-D; genders from VideoDemographics.csv if present."""
    clips = list(_parsed(folder, parse_crema_d).values())
    for path in folder.named(r"VideoDemographics\.csv")[:1]:
        sex = {row["ActorID"]: row["Sex"] for row in folder.rows(path, ("ActorID", "Sex"))}
        for clip in clips:
            clip["gender"] = sex.get(clip["speaker"])
    return clips


def read_nemo(folder: Folder) -> list[Clip]:
    """Return the clips of nEMO; genders and sentences from data.tsv (as published) or metadata.csv."""
    clips = _parsed(folder, parse_nemo)
    for path in folder.named(r"(data\.tsv|metadata\.csv)")[:1]:
        for row in folder.rows(path):
            name = row.get("file_id") or row.get("file") or row.get("file_name") or ""
            if clip := clips.get(name.rsplit("/", 1)[-1].rsplit(".", 1)[0]):
                clip["gender"] = row.get("gender") or row.get("sex")
                clip["sentence"] = row.get("raw_text") or row.get("sentence") or clip["sentence"]
                clip["age"] = int(row["age"]) if row.get("age", "").isdigit() else None
    return list(clips.values())


def _parsed(folder: Folder, parse: Callable[[str], Clip | None]) -> dict[str, Clip]:
    return {stem: {"uri": uri, **clip} for _, stem, uri in folder.audio() if (clip := parse(stem))}
