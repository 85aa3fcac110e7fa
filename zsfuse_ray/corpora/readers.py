"""From what a user names as a corpus to a table of labelled clips."""

import os
from collections.abc import Callable

import pyarrow as pa

from zsfuse_ray.audio.manifest import MANIFESTS, read_manifest
from zsfuse_ray.corpora import filenames, labelfiles
from zsfuse_ray.corpora.clips import labelled
from zsfuse_ray.corpora.emobox import read_emobox
from zsfuse_ray.corpora.filenames import Clip
from zsfuse_ray.corpora.folder import Folder, open_folder
from zsfuse_ray.errors import InputError, nearest, redact

# Corpus -> its reader, and what the reader looks for (said where nothing is found).
READERS: dict[str, tuple[Callable[[Folder], list[Clip]], str]] = {
    "ravdess": (filenames.read_ravdess, "speech named like 03-01-05-02-01-01-12.wav"),
    "emodb": (filenames.read_emodb, "audio named like 03a01Fa.wav"),
    "crema_d": (filenames.read_crema_d, "audio named like 1001_DFA_ANG_XX.wav"),
    "nemo": (filenames.read_nemo, "audio named like SM0_happiness_12.wav"),
    "tess": (filenames.read_tess, "audio named like OAF_back_angry.wav"),
    "iemocap": (labelfiles.read_iemocap, "SessionN/dialog/EmoEvaluation/Ses*.txt"),
    "msp_podcast": (labelfiles.read_msp_podcast, "labels_consensus.csv"),
    "meld": (labelfiles.read_meld, "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv"),
}
OTHERS = ("emobox", "metadata")
FILE_COLUMNS = ("uri", "file", "path", "filename", "file_name")  # how a metadata.csv names its files


def read(source: str) -> pa.Table:
    """Return the clips of a manifest (csv, jsonl, parquet with uri and emotion) or of ``NAME:FOLDER``.

    NAME is one of READERS, ``emobox`` (a list or a data set's folder of EmoBox) or ``metadata`` (a folder
    with a metadata.csv). No audio is opened. InputError where there is nothing to read.
    """
    name, _, root = source.partition(":")
    if "/" not in name and "." not in name and root and not root.startswith("//"):
        return _read_corpus(name.lower().replace("-", "_"), root)
    if not source.lower().endswith(MANIFESTS):
        kinds, known = ", ".join(MANIFESTS), ", ".join((*READERS, *OTHERS))
        raise InputError(f"{redact(source)}: neither a manifest ({kinds}) nor CORPUS:FOLDER (one of {known})")
    stem = os.path.splitext(os.path.basename(source))[0]
    return labelled(read_manifest(source), redact(source), corpus=stem)


def _read_corpus(name: str, root: str) -> pa.Table:
    if name == "metadata":
        return _read_metadata(root)
    if name == "emobox":
        clips = read_emobox(root)
    elif name in READERS:
        reader, wanted = READERS[name]
        folder = open_folder(root)
        clips = reader(folder)
        if not clips:
            beside = f"; it has a metadata.csv: try metadata:{root}" if "metadata.csv" in folder.files else ""
            raise InputError(f"{redact(root)}: no {name} in it (looked for {wanted}{beside})")
    else:
        raise InputError(f"unknown corpus {name!r}{nearest(name, (*READERS, *OTHERS))}")
    columns = {key: None for clip in clips for key in clip}
    rows = {key: [clip.get(key) for clip in clips] for key in columns}
    return labelled(pa.table(rows), redact(root), corpus=name)


def _read_metadata(root: str) -> pa.Table:
    folder = open_folder(root)
    if "metadata.csv" not in folder.files:
        raise InputError(f"{redact(root)}: no metadata.csv in it")
    table = read_manifest(folder.files["metadata.csv"], FILE_COLUMNS)
    return labelled(table, redact(root), corpus=os.path.basename(folder.root))
