"""The files of a corpus' folder, listed by name: reading labels opens no audio."""

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from zsfuse_ray.audio.files import is_sidecar, list_files
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.stores import check_scheme, local_path

# Of several formats of a clip, the first of these is used; video containers last.
PREFERENCE = (".wav", ".flac", ".aiff", ".opus", ".ogg", ".mp3", ".m4a")


@dataclass(frozen=True)
class Folder:
    """A corpus' folder: `root` is absolute, `files` maps relative paths to URIs, in a fixed order."""

    root: str
    files: dict[str, str]

    def audio(self) -> Iterator[tuple[str, str, str]]:
        """Yield relative path, stem and URI of each possible audio file, one format per clip.

        Files with equal stems count as one clip; readers of corpora that repeat file names across folders
        use ``files`` instead.
        """
        preferred: dict[str, tuple[int, str, str]] = {}
        for path, uri in self.files.items():
            stem, suffix = os.path.splitext(os.path.basename(path))
            suffix = suffix.lower()
            if is_sidecar(path):
                continue
            rank = PREFERENCE.index(suffix) if suffix in PREFERENCE else len(PREFERENCE)
            if stem not in preferred or rank < preferred[stem][0]:
                preferred[stem] = (rank, path, uri)
        for stem, (_, path, uri) in preferred.items():
            yield path, stem, uri

    def named(self, pattern: str) -> list[str]:
        """Return the relative paths whose end matches the regular expression, ignoring case."""
        expression = re.compile(rf"(?:^|.*/){pattern}$", re.I)
        return [path for path in self.files if expression.match(path)]

    def text(self, path: str) -> str:
        """Return the content of a small text file: UTF-8, else Windows-1252 (written by spreadsheets)."""
        try:
            with open_audio(self.files[path]) as file:
                content = file.read()
        except SourceError as error:
            raise InputError(f"{redact(self.files[path])}: {error}") from None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("cp1252", errors="replace")

    def rows(self, path: str, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
        """Return the rows of a csv or tsv as dicts; InputError if one of `columns` is missing."""
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        reader = csv.DictReader(io.StringIO(self.text(path), newline=""), delimiter=delimiter)
        names = reader.fieldnames or []
        if missing := next((name for name in columns if name not in names), None):
            raise InputError(f"{redact(self.files[path])}: no column {missing} among {', '.join(names)}")
        return [{name: value or "" for name, value in row.items() if name} for row in reader]


def open_folder(root: str) -> Folder:
    """List a corpus' folder; InputError if it is missing or empty."""
    check_scheme(root)
    is_local = "://" not in root or root.startswith("file://")
    base = local_path(root) if is_local else root.rstrip("/")
    if is_local and os.path.isfile(base):
        raise InputError(f"{redact(root)} is a file; give the folder of the corpus")
    uris = [file["uri"] for file in list_files(root)]
    if unread := next((uri for uri in uris if uri.endswith("/")), None):
        raise InputError(f"{unread}: cannot list this folder of the corpus")
    return Folder(base, {uri.removeprefix(base).lstrip("/"): uri for uri in uris})
