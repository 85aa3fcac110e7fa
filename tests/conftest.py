"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real audio (corpora, longform, odd), no part of the project: its tests skip without it."""
    folder = Path(os.environ.get("ZSFUSE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real audio is not here: {folder} (set ZSFUSE_SHARED to its folder)")
    return folder
