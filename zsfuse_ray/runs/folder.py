"""The folder of a run, local or in an object store: read and write its files."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.stores import retried, table_filesystem

REJECTS = "rejects"  # every job lists here what it could not read


@dataclass(frozen=True)
class Output:
    """A run's folder. Its methods take names relative to it."""

    uri: str
    fs: pafs.FileSystem
    root: str

    @classmethod
    def open(cls, uri: str, option: str = "--output") -> "Output":
        """Open a folder or object-store prefix, named by this option; InputError if it cannot be one."""
        try:
            fs, root = table_filesystem(uri)
            kind = fs.get_file_info(root).type
            bucket = root.split("/")[0]
            if "://" in uri and fs.get_file_info(bucket).type == pafs.FileType.NotFound:
                raise InputError(f"{option} {redact(uri)}: there is no bucket {bucket}; create it first")
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{option} {redact(uri)}: {redact(' '.join(str(error).split()))[:300]}"
            ) from None
        if kind == pafs.FileType.File:
            raise InputError(f"{option} {redact(uri)} is a file; name a folder")
        return cls(redact(uri), fs, root.rstrip("/"))

    def path(self, name: str) -> str:
        """Full path of a name, in the filesystem's form."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name exists."""
        return self.fs.get_file_info(self.path(name)).type != pafs.FileType.NotFound

    def delete(self, name: str) -> None:
        """Delete a file or folder if it exists."""
        kind = self.fs.get_file_info(self.path(name)).type
        if kind == pafs.FileType.Directory:
            self.fs.delete_dir(self.path(name))
        elif kind == pafs.FileType.File:
            self.fs.delete_file(self.path(name))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Content of a JSON file, None if it does not exist. InputError if zsfuse_ray did not write it."""
        if not self.exists(name):
            return None
        content = self.read_bytes(self.path(name))
        try:
            value = json.loads(content)
            if "zsfuse_ray" in value["versions"]:
                return value
        except (ValueError, KeyError, TypeError):
            pass  # reported below, like any other file that zsfuse_ray did not write
        raise InputError(f"{self.uri}/{name} exists, but zsfuse_ray did not write it; use another --output")

    def read_bytes(self, path: str) -> bytes:
        """All of a file, whose path is in the filesystem's form; tried again while a store is overloaded."""

        def read() -> bytes:
            with self.fs.open_input_stream(path) as file:
                return file.read()

        return retried(read, self.fs)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file; atomically on a local disk, so that a killed job leaves the old or new file."""
        temporary = f"{name}.tmp" if isinstance(self.fs, pafs.LocalFileSystem) else name
        self._folder_of(name)
        with self.fs.open_output_stream(self.path(temporary)) as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False).encode())
        if temporary != name:
            self.fs.move(self.path(temporary), self.path(name))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file."""
        self._folder_of(name)
        with self.fs.open_output_stream(self.path(name)) as file:
            file.write(content)

    def write_table(self, name: str, table: pa.Table, **options: Any) -> None:
        """Write one Parquet file, with options of pyarrow's `write_table`."""
        self._folder_of(name)
        retried(lambda: pq.write_table(table, self.path(name), filesystem=self.fs, **options), self.fs)

    def write_tables(self, name: str, tables: Iterable[pa.Table]) -> None:
        """Write tables of one schema to one Parquet file, one at a time; writes nothing without tables."""
        self._folder_of(name)
        with ExitStack() as open_files:
            writer = None
            for table in tables:
                if writer is None:
                    sink = open_files.enter_context(self.fs.open_output_stream(self.path(name)))
                    writer = open_files.enter_context(pq.ParquetWriter(sink, table.schema))
                writer.write_table(table)

    @contextmanager
    def as_folder(self, name: str = "") -> Iterator[Path]:
        """A local folder whose files are in the output, or its subfolder, after the block.

        For an object store they are copied then, also after an exception.
        """
        place = self.path(name).rstrip("/")
        if isinstance(self.fs, pafs.LocalFileSystem):
            yield Path(place)
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield Path(folder)
            finally:
                pafs.copy_files(
                    folder,
                    place,
                    source_filesystem=pafs.LocalFileSystem(),
                    destination_filesystem=self.fs,
                )

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or all of a folder."""
        return retried(lambda: self.dataset(name).to_table(columns=columns), self.fs)

    def dataset(self, name: str) -> ds.Dataset:
        """A Parquet file or folder as a dataset, to be read in pieces."""
        return ds.dataset(self.path(name), filesystem=self.fs, format="parquet", exclude_invalid_files=False)

    def files(self, name: str) -> list[str]:
        """Paths of all files in a folder and its subfolders; empty if the folder does not exist."""
        entries = self.fs.get_file_info(
            pafs.FileSelector(self.path(name), allow_not_found=True, recursive=True)
        )
        return [file.path for file in entries if file.type == pafs.FileType.File]

    def parquet_files(self, name: str) -> list[str]:
        """Paths of the Parquet files in a folder and its subfolders."""
        return [path for path in self.files(name) if path.endswith(".parquet")]

    def _folder_of(self, name: str) -> None:
        self.fs.create_dir(self.path(name).rsplit("/", 1)[0], recursive=True)
