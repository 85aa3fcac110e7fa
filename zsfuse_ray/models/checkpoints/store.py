"""Checkpoints in an object store: copied into a cache, where they are folders like any other."""

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

_WANTED = (".json", ".txt", ".model", ".md", ".bin", *FILES)


def is_stored(checkpoint: str) -> bool:
    """Whether a checkpoint's name is a URI, such as s3://BUCKET/FOLDER."""
    return "://" in checkpoint


@cache
def mirrored(uri: str) -> Path:
    """Return the cache's copy of a stored checkpoint: a folder with its files, or its one file of weights.

    The store is asked once by a process, which so keeps to one version, and the files are fetched where the
    cache has none of this content; a training's own checkpoints, in folders below, are not.

    Raises InputError for one that is not there, and for credentials in the URI: they would be kept wherever a
    model's name is.
    """
    shown = redact(uri)
    if shown != uri:
        raise InputError(f"{shown}: credentials belong in the environment (AWS_ACCESS_KEY_ID), not in a URI")
    try:
        fs, root = pafs.FileSystem.from_uri(uri.rstrip("/"))
        info = fs.get_file_info(root)
        if info.type == pafs.FileType.NotFound:
            raise InputError(f"no such checkpoint: {uri}")
        is_file = info.type == pafs.FileType.File
        listed = [info] if is_file else fs.get_file_info(pafs.FileSelector(root))
        files = [f for f in listed if f.type == pafs.FileType.File and _is_wanted(f.base_name)]
        place = _place(f"{fs.type_name}:{root}", files)
        if not place.is_dir():
            _copy(fs, files, place)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{uri}: {redact(' '.join(str(error).split()))[:300]}") from None
    return place / info.base_name if is_file else place


def _is_wanted(name: str) -> bool:
    return name.endswith(_WANTED) and not name.startswith(".")


def _place(source: str, files: list[pafs.FileInfo]) -> Path:
    """Where the cache has these files: another place as soon as one of them changes."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zsfuse_ray" / "models"
    content = json.dumps([source, sorted((f.base_name, f.size, f.mtime_ns) for f in files)])
    return root / sha256(content.encode()).hexdigest()[:16]


def _copy(fs: pafs.FileSystem, files: list[pafs.FileInfo], place: Path) -> None:
    """Copy files of a store into a new folder, which is there with all of them or not at all."""
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
            if not place.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
