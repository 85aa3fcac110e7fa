"""The files of a folder, a glob or an object-store prefix."""

import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from zsfuse_ray.errors import InputError, redact, redact_uri
from zsfuse_ray.stores import audio_filesystem, local_path, url_path

# Files of these types are not audio; every other file is tried, whatever its name.
SIDECARS = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".md", ".xml", ".html", ".htm", ".pdf",
    ".yaml", ".yml", ".toml", ".log", ".py", ".nfo", ".cue", ".m3u", ".m3u8", ".rss", ".srt",
    ".vtt", ".lab", ".textgrid", ".eaf", ".trs", ".rttm", ".ctm", ".stm", ".zip", ".gz", ".tar",
    ".bz2", ".xz", ".7z", ".doc", ".docx", ".xls", ".xlsx",
))  # fmt: skip


def list_files(archive: str) -> list[dict[str, Any]]:
    """Return the files of `iter_files`."""
    return list(iter_files(archive))


def iter_files(archive: str) -> Iterator[dict[str, Any]]:
    """Find all files but hidden ones, in a fixed order: dicts of uri and, if known, size and version.

    archive: a folder (searched recursively, links to folders included), a file, an object-store prefix or, if
    nothing has exactly this name, a glob. A local folder that cannot be listed is one of the files, with a
    slash at its end: opening it gives the reason. size is in bytes; version, an ETag or a modification time,
    changes with the content. InputError if there is no file.
    """
    if "://" not in archive or archive.startswith("file://"):
        yield from _local_files(archive)
        return
    if archive.startswith(("http://", "https://")):
        yield {"uri": archive}
        return
    try:
        fs, path = audio_filesystem(archive)
        infos = {path: fs.info(path)} if fs.isfile(path) else fs.find(path, detail=True)
        if not infos and _is_glob(path):
            infos = fs.glob(path, detail=True)
    except Exception as error:  # each store has its own errors
        raise InputError(f"{redact_uri(archive)}: {redact(cause(error), archive)}") from None
    prefix = f"{archive.split('://')[0]}://"
    names = sorted(
        name for name, info in infos.items() if info.get("type") == "file" and not _is_hidden(name)
    )
    if not names:
        raise InputError(f"{redact_uri(archive)}: nothing there (no file matches)")
    for name in names:
        info = infos.pop(name)
        yield {"uri": prefix + name, "size": info.get("size"), "version": _version(info)}


def _is_glob(path: str) -> bool:
    return any(letter in path for letter in "*?[")


def _local_files(archive: str) -> Iterator[dict[str, Any]]:
    path = local_path(archive)
    if os.path.isdir(path):
        found, without = walk(path), "the folder is empty"
    elif os.path.lexists(path):
        found, without = iter([path]), ""
    elif _is_glob(path):
        found, without = iter(sorted(_matches(path))), "nothing there (no file matches)"
    else:
        raise InputError(f"{archive}: no such file or folder")
    is_empty = True
    for name in found:
        is_empty = False
        yield _local(name)
    if is_empty:
        raise InputError(f"{archive}: {without}")


def _matches(pattern: str) -> Iterator[str]:
    """Files whose path matches a glob."""
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if _is_glob(part))
    depth = None if "**" in pattern else len(parts) - first
    match = re.compile(glob_translate(pattern)).match
    root = "/".join(parts[:first]) or "/"
    yield from (path for path in walk(root, depth) if match(path)) if os.path.isdir(root) else ()


def walk(root: str, depth: int | None = None) -> Iterator[str]:
    """Paths of the files in a folder and, with a slash at the end, of folders that cannot be listed.

    Links to folders are followed after all others, and no folder is listed twice, so that loops end. A link
    to a folder that contains the root is a loop. depth: levels of folders, by default all.
    """
    real = os.path.realpath(root)
    seen = {real}
    folders, links = [(root, real, 1)], deque[tuple[str, int]]()
    while folders or links:
        if not folders:
            link, level = links.popleft()
            target = os.path.realpath(link)
            if target in seen or real.startswith(target.rstrip("/") + "/"):
                continue
            seen.add(target)
            folders.append((link, target, level))
        folder, of_folder, level = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # opening it gives the same error
            yield f"{folder}/"
            continue
        below = []
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if not _is_folder(entry):
                yield entry.path
            elif depth is None or level < depth:
                if entry.is_symlink():
                    links.append((entry.path, level + 1))
                elif (place := os.path.join(of_folder, entry.name)) not in seen:
                    seen.add(place)
                    below.append((entry.path, place, level + 1))
        folders += reversed(below)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: opening it gives the same error
        return False


def _version(info: dict[str, Any]) -> str | None:
    """Return what changes with the content of a file, under the name that its store uses."""
    names = ("ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime")
    return next((str(info[name]) for name in names if info.get(name)), None)


def _local(path: str) -> dict[str, Any]:
    size = version = None
    try:
        status = os.stat(path)
    except OSError:
        pass  # opening it gives the same error
    else:
        if not stat.S_ISDIR(status.st_mode):
            size, version = status.st_size, str(status.st_mtime_ns)
    return {"uri": _text(path), "size": size, "version": version}


def _text(path: str) -> str:
    """Return the path, or its file:// URI if it is not valid UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri() + ("/" if path.endswith("/") else "")
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
