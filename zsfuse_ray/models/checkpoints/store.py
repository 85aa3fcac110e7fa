"""Checkpoints in an object store: copied into a local cache, then handled like any folder."""

import json
import os
import shutil
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.models.checkpoints.hub import FILES
from zsfuse_ray.stores import table_filesystem

_WANTED = (".json", ".txt", ".model", ".md", ".bin", *FILES)


def is_stored(checkpoint: str) -> bool:
    """Return whether a checkpoint's name is a URI, such as s3://BUCKET/FOLDER."""
    return "://" in checkpoint


@cache
def mirrored(uri: str) -> Path:
    """Return the cached copy of a stored checkpoint: a folder with its files, or its single file of weights.

    The store is queried once per process, which therefore uses one version; files are downloaded unless this
    content is cached. Subfolders (checkpoints of a training) are ignored.

    Raises InputError if it is missing, and for credentials in the URI: they would be stored wherever the
    model's name is.
    """
    shown = redact(uri)
    if shown != uri:
        raise InputError(f"{shown}: pass credentials in the environment (AWS_ACCESS_KEY_ID), not in the URI")
    try:
        fs, root = table_filesystem(uri.rstrip("/"))
        info = fs.get_file_info(root)
        if info.type == pafs.FileType.NotFound:
            raise InputError(f"no such checkpoint: {uri}")
        is_file = info.type == pafs.FileType.File
        listed = [info] if is_file else fs.get_file_info(pafs.FileSelector(root))
        files = [f for f in listed if f.type == pafs.FileType.File and _is_wanted(f.base_name)]
        place = _place(f"{fs.type_name}:{root}", files)
        if not (place.is_dir() and all((place / file.base_name).is_file() for file in files)):
            _copy(fs, files, place)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{uri}: {redact(' '.join(str(error).split()))[:300]}") from None
    return place / info.base_name if is_file else place


def _is_wanted(name: str) -> bool:
    return name.endswith(_WANTED) and not name.startswith(".")


def _place(source: str, files: list[pafs.FileInfo]) -> Path:
    """Return the cache folder of these files; it changes if one of them changes."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zsfuse_ray" / "models"
    content = json.dumps([source, sorted((f.base_name, f.size, f.mtime_ns) for f in files)])
    return root / sha256(content.encode()).hexdigest()[:16]


def _copy(fs: pafs.FileSystem, files: list[pafs.FileInfo], place: Path) -> None:
    """Copy files of a store into a folder, atomically if it is new, else each of them."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=place.parent)
    try:
        for file in files:
            pafs.copy_files(
                file.path,
                os.path.join(fresh, file.base_name),
                source_filesystem=fs,
                destination_filesystem=pafs.LocalFileSystem(),
            )
        try:
            os.rename(fresh, place)
        except OSError:
            if not place.is_dir():
                raise
            for file in files:  # another process was faster, or some were missing
                os.replace(os.path.join(fresh, file.base_name), place / file.base_name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
