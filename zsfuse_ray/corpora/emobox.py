"""EmoBox (Ma et al. 2024): its lists of clips, and its folds.

A list has rows of key, dataset, wav, emo, …, as .jsonl or as one .json (a list, or a dict by key). The
audio is in EmoBox's layout: ``wav`` is relative to the folder that contains ``data`` and ``downloads``.
"""

import json
import os
import posixpath
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.corpora.filenames import Clip, parse_crema_d, parse_emodb, parse_ravdess, parse_tess
from zsfuse_ray.corpora.folder import Folder, open_folder
from zsfuse_ray.corpora.labelfiles import IEMOCAP_CLASSES, parse_iemocap
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.stores import audio_filesystem

_LIST = re.compile(r"(?P<dataset>.+?)(_(?P<part>train|valid|test)_fold_(?P<fold>\d+))?\.(?P<form>jsonl|json)")
_CORPORA = {"cremad": "crema_d", "msppodcast": "msp_podcast"}
# EmoBox lists no speakers; the file names of these corpora contain them.
_SPEAKERS: dict[str, Callable[[str], Clip | None]] = {
    "ravdess": parse_ravdess,
    "emodb": parse_emodb,
    "crema_d": parse_crema_d,
    "tess": parse_tess,
    "iemocap": parse_iemocap,
}
_LABEL_MAPS = ("label_map.json", "label_dict.json")
# EmoBox's test folds of RAVDESS, four actors each; a list of its clips is not needed for them.
_RAVDESS_TESTED = (
    ("01", "11", "20", "21"),
    ("04", "10", "12", "14"),
    ("08", "09", "19", "23"),
    ("03", "05", "07", "24"),
    ("02", "15", "16", "18"),
    ("06", "13", "17", "22"),
)
_RAVDESS_FOLDS = {f"Actor_{n}": k for k, actors in enumerate(_RAVDESS_TESTED, start=1) for n in actors}
_NO_EMOTION = ("no-agreement", "other", "unknown", "x", "o")


def read_emobox(source: str) -> list[Clip]:
    """Return the clips of one list or of a data set's folder.

    With several folds, ``fold`` is the one whose test part contains the clip; with one fold, its parts become
    ``split``. Labels are mapped by a label_map.json beside the list, if any. InputError if there is no list,
    or no audio in EmoBox's layout.
    """
    is_list = source.lower().endswith((".json", ".jsonl"))
    folder = open_folder(source.rpartition("/")[0] or "." if is_list else source)
    paths = [path for path in folder.files if not is_list or path == source.rpartition("/")[2]]
    lists = {path: match for path in paths if (match := _LIST.fullmatch(os.path.basename(path)))}
    lists = {
        path: match
        for path, match in lists.items()
        if os.path.basename(path) not in _LABEL_MAPS and not (match["form"] == "json" and f"{path}l" in lists)
    }
    if any(match["part"] for match in lists.values()):
        lists = {path: match for path, match in lists.items() if match["part"]}
    if not lists:
        what = "<dataset>_{train,valid,test}_fold_<n>.jsonl or <dataset>.jsonl"
        raise InputError(f"{redact(source)}: contains no EmoBox list (looked for {what})")
    if len(datasets := sorted({match["dataset"] for match in lists.values()})) > 1:
        raise InputError(f"{redact(source)}: lists of {', '.join(datasets)}; give the folder of one data set")
    clips: dict[str, Clip] = {}
    has_folds = len({match["fold"] for match in lists.values()}) > 1
    for path, match in lists.items():
        for row in _rows(folder, path):
            clip = clips.setdefault(row["key"], row)
            if match["part"] == "test" and (has_folds or is_list):
                clip["fold"] = int(match["fold"])
            if match["part"] and not has_folds:
                clip["split"] = match["part"]
    labels = _label_map(folder)
    kept = [clip for row in clips.values() if (clip := _clip(row, labels, redact(source)))]
    return _placed(kept, folder) if kept else []


def emobox_folds(clips: pa.Table, corpus: str) -> pa.Table:
    """Return a corpus' CLIPS with EmoBox's folds or splits.

    RAVDESS's folds follow from its actors, IEMOCAP's are its sessions. For another corpus they must be there:
    read from EmoBox's lists (``emobox:FOLDER``), or from a manifest. InputError if they are not.
    """
    if corpus == "ravdess":
        numbers = [_RAVDESS_FOLDS.get(name) for name in clips["speaker"].to_pylist()]
        if None in numbers:
            raise InputError(f"ravdess: {clips['speaker'][numbers.index(None)]} is in no fold of EmoBox")
        folds = pa.array(numbers, pa.int32())
        place = clips.column_names.index("fold")
        return clips.set_column(place, clips.schema.field("fold"), folds)
    if clips["fold"].null_count and clips["split"].null_count:
        raise InputError(
            f"{corpus}: no EmoBox folds; give EmoBox's lists (--corpus emobox:FOLDER), or a manifest with a "
            "column fold or split"
        )
    return clips


def _rows(folder: Folder, path: str) -> list[dict[str, Any]]:
    text = folder.text(path)
    try:
        if path.lower().endswith(".jsonl"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
            rows = [{"key": key, **row} for key, row in rows.items()] if isinstance(rows, dict) else rows
        wanted = ("dataset", "wav", "emo", "length")
        return [{"key": row.get("key") or row["wav"], **{k: row.get(k) for k in wanted}} for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{redact(folder.files[path])}: not an EmoBox list ({error})") from None


def _clip(row: dict[str, Any], labels: dict[str, str], source: str) -> Clip | None:
    """Return the clip of a list's row, or None if the row has no emotion."""
    if missing := next((name for name in ("wav", "emo") if not row[name]), None):
        raise InputError(f"{source}: {row['key']} has no {missing}")
    dataset = str(row["dataset"] or "emobox").lower()
    corpus = _CORPORA.get(dataset, dataset)
    emotion = str(labels.get(row["emo"], row["emo"]))
    if emotion.lower() in _NO_EMOTION:
        return None
    if corpus == "iemocap":
        emotion = IEMOCAP_CLASSES.get(emotion, emotion)
    clip = {"uri": row["wav"], "corpus": corpus, "duration_s": row["length"]}
    # "boredem" is EmoBox's own spelling, seen without the label map.
    clip |= {"emotion": "boredom" if emotion == "boredem" else emotion}
    stem = os.path.splitext(os.path.basename(row["wav"]))[0]
    parsed = _SPEAKERS[corpus](stem) or {} if corpus in _SPEAKERS else {}
    clip |= {key: parsed.get(key) for key in ("speaker", "gender", "sentence", "intensity")}
    return {**clip, "split": row.get("split"), "fold": row.get("fold")}


def _label_map(folder: Folder) -> dict[str, str]:
    """Return the label map of the folder, or of its parent; empty if neither has one."""
    places = (folder.root, posixpath.dirname(folder.root))
    for path in (f"{place}/{name}" for place in places for name in _LABEL_MAPS):
        try:
            with open_audio(path) as file:
                return json.load(file)
        except SourceError as error:
            if error.reason != "not_found":
                raise InputError(str(error)) from None
        except ValueError as error:
            raise InputError(f"{redact(path)}: {error}") from None
    return {}


def _placed(clips: list[Clip], folder: Folder) -> list[Clip]:
    """Return the clips with full URIs, from the nearest folder at or above the lists that has any audio."""
    fs, base = audio_filesystem(folder.root)
    prefix = f"{folder.root.split('://')[0]}://" if "://" in folder.root else ""
    some = [clip["uri"] for clip in clips[:20]]
    places = [base]
    while (above := posixpath.dirname(places[-1])) not in ("", places[-1]):
        places.append(above)
    for place in places:
        if any(fs.exists(posixpath.join(place, wav)) for wav in some):
            return [clip | {"uri": prefix + posixpath.join(place, clip["uri"])} for clip in clips]
    raise InputError(f"{redact(folder.root)}: no audio {some[0]} in this folder or in any above it")
