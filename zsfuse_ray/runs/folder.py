"""The folder of a run, local or in an object store: read and write its files."""

import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError, redact, redact_uri
from zsfuse_ray.stores import retried, table_filesystem

REJECTS = "rejects"  # every job lists here what it could not read
# Names that start with a dot, which readers of tables skip: files that are being written, and locks.
TEMPORARY, LOCK = ".zsfuse.tmp", ".zsfuse-lock"


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
                f"{option} {redact(uri)}: {redact(' '.join(str(error).split()), uri)[:300]}"
            ) from None
        if kind == pafs.FileType.File:
            raise InputError(f"{option} {redact(uri)} is a file; name a folder")
        return cls(redact_uri(uri), fs, root.rstrip("/"))

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

    def keep_private(self, name: str) -> None:
        """Let only its owner read a folder and its files; in an object store its own rules apply."""
        if isinstance(self.fs, pafs.LocalFileSystem):
            self.fs.create_dir(self.path(name), recursive=True)
            os.chmod(self.path(name), 0o700)
            for path in self.files(name):
                os.chmod(path, 0o600)

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
        """Write a JSON file."""
        self.write_bytes(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode())

    def write_table(self, name: str, table: pa.Table, **options: Any) -> None:
        """Write one Parquet file, with options of pyarrow's `write_table`."""
        content = pa.BufferOutputStream()
        pq.write_table(table, content, **options)
        self.write_bytes(name, content.getvalue())

    def write_tables(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write one Parquet file from pieces, each a row group, which need not be in memory together."""
        content = pa.BufferOutputStream()  # compressed
        with pq.ParquetWriter(content, schema) as writer:
            for table in tables:
                writer.write_table(table)
        self.write_bytes(name, content.getvalue())

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file as a whole: a killed job, or a full disk, leaves the old file or none."""
        path = self.path(name)
        folder, base = path.rsplit("/", 1)

        def upload() -> None:
            self.fs.create_dir(folder, recursive=True)
            with self.fs.open_output_stream(path) as file:
                file.write(content)

        if not isinstance(self.fs, pafs.LocalFileSystem):  # an object appears when its upload is complete
            retried(upload, self.fs)
            return
        self.fs.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{base}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
        try:
            with self.fs.open_output_stream(temporary) as file:
                file.write(content)
            self.fs.move(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def sweep(self, *names: str) -> None:
        """Delete the temporary files that a killed job has left directly in these folders."""
        for name in names:
            for file in self.fs.get_file_info(pafs.FileSelector(self.path(name), allow_not_found=True)):
                if file.base_name.startswith(".") and file.base_name.endswith(TEMPORARY):
                    self.fs.delete_file(file.path)

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

    def read_file(self, path: str, **options: Any) -> pa.Table:
        """Read one Parquet file, by its path in the filesystem's form; options of pyarrow's `read_table`."""
        return retried(lambda: pq.read_table(path, filesystem=self.fs, **options), self.fs)

    def schema(self, name: str) -> pa.Schema:
        """The columns of a Parquet file or folder."""
        return retried(lambda: self.dataset(name).schema, self.fs)

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
