"""The name of a recording's exported file: its path below the folder that all recordings share."""

import hashlib
import re
from collections.abc import Iterable
from os.path import commonprefix

LONGEST = 200  # bytes of a folder's or file's name; file systems allow 255, and a suffix follows
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def shared_folder(uris: Iterable[str]) -> str:
    """Return the longest folder that all URIs start with, with its slash, or "" if there is none."""
    # cut at a slash below; commonpath would merge the two of "s3://"
    prefix = commonprefix(list(uris))  # noqa: RUF071
    return prefix[: prefix.rfind("/") + 1]


def file_name(uri: str, folder: str) -> str:
    """Return a relative path for a URI below this folder that stays inside any output folder.

    The whole name of the audio file is kept, since a.wav and a.mp3 may lie side by side. Different URIs have
    different names: one that had to be changed ends in a hash of the URI.
    """
    own = uri.removeprefix(folder)
    parts = [_safe(part) for part in own.split("/") if part not in ("", ".", "..")]
    name = "/".join(parts)
    if name == own:
        return name
    return f"{name}-{hashlib.sha256(uri.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _safe(part: str) -> str:
    """A part of a path without characters that some file system refuses, and of a length that all take."""
    clean = _UNSAFE.sub("_", part.encode(errors="replace").decode())
    return clean.encode()[:LONGEST].decode(errors="ignore")
