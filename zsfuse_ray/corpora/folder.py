"""The files of a corpus' folder, found by name: reading labels opens no audio."""

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zsfuse_ray.audio.files import check_scheme, is_sidecar, list_files
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.errors import InputError, redact

# Where a clip is there in several forms, the first of these; containers with pictures last.
PREFERENCE = (".wav", ".flac", ".aiff", ".opus", ".ogg", ".mp3", ".m4a")


@dataclass(frozen=True)
class Folder:
    """A corpus' folder: `root` absolute, `files` from relative path to URI, in a fixed order."""

    root: str
    files: dict[str, str]

    def audio(self) -> Iterator[tuple[str, str, str]]:
        """Relative path, stem and URI of each file that may be audio; of several forms of a clip one.

        Two files are one clip where their stems are equal, so a reader whose corpus repeats file names
        from folder to folder looks at ``files`` itself.
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
        """Relative paths whose end matches the regular expression, whatever the case."""
        expression = re.compile(rf"(?:^|.*/){pattern}$", re.I)
        return [path for path in self.files if expression.match(path)]

    def text(self, path: str) -> str:
        """A small text file, UTF-8 or else Windows-1252 (as spreadsheets write it)."""
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
        """A csv or tsv as dicts; InputError where one of `columns` is missing."""
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        reader = csv.DictReader(io.StringIO(self.text(path), newline=""), delimiter=delimiter)
        names = reader.fieldnames or []
        if missing := next((name for name in columns if name not in names), None):
            raise InputError(f"{redact(self.files[path])}: no column {missing} among {', '.join(names)}")
        return [{name: value or "" for name, value in row.items() if name} for row in reader]


def open_folder(root: str) -> Folder:
    """List a corpus' folder; InputError where it is not there or empty."""
    check_scheme(root)
    is_local = "://" not in root or root.startswith("file://")
    if is_local and Path(root.removeprefix("file://")).expanduser().is_file():
        raise InputError(f"{redact(root)}: a file, where the folder of a corpus is wanted")
    base = os.path.abspath(Path(root.removeprefix("file://")).expanduser()) if is_local else root.rstrip("/")
    uris = [file["uri"] for file in list_files(root)]
    return Folder(base, {uri.removeprefix(base).lstrip("/"): uri for uri in uris})
