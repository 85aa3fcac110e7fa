"""Files that accompany recordings, such as turns and transcripts: found by the names of the recordings."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zsfuse_ray.audio.files import cause, list_files, suffix
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.errors import InputError, redact_uri
from zsfuse_ray.stores import url_path

MOST_BYTES = 64 << 20  # of one file


@dataclass(frozen=True)
class Sidecar:
    """A file beside recordings. version: changes with its content, as far as its store tells."""

    uri: str
    version: str


def list_sidecars(place: str, suffixes: Sequence[str], option: str) -> dict[str, Sidecar]:
    """Return the files with these suffixes in a folder or prefix, by their path below it without the suffix.

    Of files that differ in the suffix alone, the first suffix counts. InputError if there is none.
    """
    folder = place.rstrip("/") + "/"
    found: dict[str, tuple[int, Sidecar]] = {}
    for file in list_files(place):
        uri = file["uri"]
        if (end := suffix(uri)) in suffixes:
            name = os.path.splitext(uri.removeprefix(folder) if uri.startswith(folder) else uri)[0]
            rank = suffixes.index(end)
            if name not in found or rank < found[name][0]:
                found[name] = rank, Sidecar(uri, f"{file.get('size')} {file.get('version')}")
    if not found:
        raise InputError(f"{option} {redact_uri(place)}: no file in it ends in {', '.join(suffixes)}")
    return {name: one for name, (_, one) in found.items()}


def read_sidecar(uri: str, option: str) -> str:
    """Return the text of a file; InputError if it cannot be read, is no UTF-8 or larger than MOST_BYTES."""
    try:
        with open_audio(uri) as file:
            content = file.read(MOST_BYTES + 1)
    except (SourceError, OSError) as error:
        raise InputError(f"{option} {redact_uri(uri)}: {cause(error)}") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{option} {redact_uri(uri)}: larger than {MOST_BYTES >> 20} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {redact_uri(uri)}: not UTF-8 ({error.reason})") from None


def match_names(uris: Iterable[str], names: Iterable[str], option: str) -> dict[str, str]:
    """Return the name of the file of each recording that has one, by the recording's URI.

    A name is that of the recording, with or without its suffix, and as many of its folders as needed to tell
    recordings apart; if no folder matches, a name that is unique without its folders. InputError if a name
    could be that of recordings in several folders.
    """
    known = set(names)
    by_base: dict[str, list[str]] = {}
    for name in known:
        by_base.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    found: dict[str, str] = {}
    owner: dict[str, str] = {}
    for uri in uris:
        name = _name_of(url_path(uri), known, by_base)
        if name is None or uri in found:
            continue
        own = os.path.splitext(uri)[0]
        if owner.setdefault(name, own) != own:
            raise InputError(
                f"{option}: {name} could be of {redact_uri(owner[name])} or {redact_uri(own)}: "
                "name it with its folder"
            )
        found[uri] = name
    return found


def _name_of(path: str, known: set[str], by_base: dict[str, list[str]]) -> str | None:
    parts = path.split("/")
    for first in range(len(parts)):
        tail = "/".join(parts[first:])
        for name in (tail, os.path.splitext(tail)[0]):
            if name in known:
                return name
    for base in (parts[-1], os.path.splitext(parts[-1])[0]):
        if len(of_base := by_base.get(base, ())) == 1:
            return of_base[0]
    return None
