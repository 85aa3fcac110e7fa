"""Read a source named by the user (a manifest or CORPUS:FOLDER) as a table of labelled clips."""

import os

import pyarrow as pa

from zsfuse_ray.audio.manifest import is_manifest, read_manifest
from zsfuse_ray.audio.rows import SUFFIXES
from zsfuse_ray.corpora.clips import labelled
from zsfuse_ray.corpora.emobox import read_emobox
from zsfuse_ray.corpora.folder import open_folder
from zsfuse_ray.corpora.registry import CORPORA
from zsfuse_ray.errors import InputError, nearest, redact

OTHERS = ("emobox", "metadata")
FILE_COLUMNS = ("uri", "file", "path", "filename", "file_name")  # possible file columns of a metadata.csv


def read(source: str) -> pa.Table:
    """Return the clips of a manifest (csv, tsv, jsonl, parquet with uri and emotion) or of ``NAME:FOLDER``.

    NAME is one of CORPORA, ``emobox`` (a list or a data set's folder of EmoBox) or ``metadata`` (a folder
    with a metadata.csv). No audio is opened. InputError if there are no clips.
    """
    if (name := corpus_of(source)) is not None:
        return _read_corpus(name, source.partition(":")[2])
    if not is_manifest(source):
        kinds, known = ", ".join(SUFFIXES), ", ".join((*CORPORA, *OTHERS))
        raise InputError(f"{redact(source)}: neither a manifest ({kinds}) nor CORPUS:FOLDER (one of {known})")
    stem = os.path.splitext(os.path.basename(source))[0]
    return labelled(read_manifest(source), redact(source), corpus=stem)


def corpus_of(source: str) -> str | None:
    """Return the normalised NAME of ``NAME:FOLDER``, known or not; None for a manifest."""
    name, _, root = source.partition(":")
    if "/" in name or "." in name or not root or root.startswith("//"):
        return None
    return name.lower().replace("-", "_")


def _read_corpus(name: str, root: str) -> pa.Table:
    if name == "metadata":
        return _read_metadata(root)
    if name == "emobox":
        clips = read_emobox(root)
    elif name in CORPORA:
        folder = open_folder(root)
        clips = CORPORA[name].read(folder)
        if not clips:
            looks_for = CORPORA[name].looks_for
            beside = f"; it has a metadata.csv: try metadata:{root}" if "metadata.csv" in folder.files else ""
            raise InputError(f"{redact(root)}: contains no {name} (looked for {looks_for}{beside})")
    else:
        raise InputError(f"unknown corpus {name!r}{nearest(name, (*CORPORA, *OTHERS))}")
    columns = {key: None for clip in clips for key in clip}
    rows = {key: [clip.get(key) for clip in clips] for key in columns}
    return labelled(pa.table(rows), redact(root), corpus=name)


def _read_metadata(root: str) -> pa.Table:
    folder = open_folder(root)
    if "metadata.csv" not in folder.files:
        raise InputError(f"{redact(root)}: contains no metadata.csv")
    table = read_manifest(folder.files["metadata.csv"], FILE_COLUMNS)
    return labelled(table, redact(root), corpus=os.path.basename(folder.root))
