"""The files of a folder, a glob or an object-store prefix."""

import os
from pathlib import Path
from typing import Any

from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.stores import audio_filesystem, url_path

# Files of these types are not audio; every other file is tried, whatever its name.
SIDECARS = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".md", ".xml", ".html", ".htm", ".pdf",
    ".yaml", ".yml", ".toml", ".log", ".py", ".nfo", ".cue", ".m3u", ".m3u8", ".rss", ".srt",
    ".vtt", ".lab", ".textgrid", ".eaf", ".trs", ".rttm", ".ctm", ".stm", ".zip", ".gz", ".tar",
    ".bz2", ".xz", ".7z", ".doc", ".docx", ".xls", ".xlsx",
))  # fmt: skip


def list_files(archive: str) -> list[dict[str, Any]]:
    """Return all files but hidden ones, in a fixed order: dicts of uri and, if known, size and version.

    archive: a folder (searched recursively), a file, a glob or an object-store prefix. size is in bytes;
    version, an ETag or a modification time, changes with the content. InputError if there is no file.
    """
    is_local = "://" not in archive or archive.startswith("file://")
    is_glob = any(c in archive for c in "*?[")
    if (is_local and not is_glob) or os.path.exists(archive):
        return _local_files(archive)
    if archive.startswith(("http://", "https://")):
        return [{"uri": archive}]
    try:
        fs, path = audio_filesystem(archive)
        if is_glob:
            infos = fs.glob(path, detail=True)
        elif fs.isfile(path):
            infos = {path: fs.info(path)}
        else:
            infos = fs.find(path, detail=True)
    except Exception as error:  # each store has its own errors
        raise InputError(f"{redact(archive)}: {redact(cause(error))}") from None
    prefix = "" if fs.protocol in ("file", ("file", "local")) else f"{archive.split('://')[0]}://"
    listed = [
        {"uri": prefix + name, "size": info.get("size"), "version": _version(info)}
        for name, info in sorted(infos.items())
        if info.get("type") == "file" and not _is_hidden(name)
    ]
    if not listed:
        raise InputError(f"{redact(archive)}: nothing there (no file matches)")
    return listed


def _local_files(archive: str) -> list[dict[str, Any]]:
    path = Path(archive.removeprefix("file://")).expanduser()
    if path.is_file():
        return [_local(path)]
    if not path.is_dir():
        raise InputError(f"{archive}: no such file or folder")
    objects = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        objects += [_local(Path(folder) / name) for name in sorted(names) if not _is_hidden(name)]
    if not objects:
        raise InputError(f"{archive}: the folder is empty")
    return objects


def _version(info: dict[str, Any]) -> str | None:
    """Return what changes with the content of a file, under the name that its store uses."""
    names = ("ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime")
    return next((str(info[name]) for name in names if info.get(name)), None)


def _local(path: Path) -> dict[str, Any]:
    status = path.stat() if path.exists() else None
    size, version = (status.st_size, str(status.st_mtime_ns)) if status else (None, None)
    return {"uri": _text(os.path.abspath(path)), "size": size, "version": version}


def _text(path: str) -> str:
    """Return the path, or its file:// URI if it is not valid UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(".")


def suffix(uri: str) -> str:
    """The suffix of a file's name in lower case, such as ".wav"."""
    return os.path.splitext(url_path(uri))[1].lower()


def is_sidecar(uri: str) -> bool:
    """Return whether a file name is that of a text, table or archive, not of audio."""
    return suffix(uri) in SIDECARS


def cause(error: Exception) -> str:
    """Return an error's message on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
