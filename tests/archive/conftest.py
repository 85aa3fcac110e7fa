from pathlib import Path

import pytest

from tests.archive.encoded_folders import Small, small_archive
from tests.archive.growing_archives import write_wav


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return small_archive(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name, seconds in (("a", 50.0), ("b", 3.0), ("c", 4.0)):
        write_wav(tmp_path / f"archive/{name}.wav", seconds)
    (tmp_path / "archive/notes.wav").write_text("To whom it may concern, " * 100)
    return tmp_path / "archive"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"
