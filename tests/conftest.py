"""Fixtures every test may use."""

import os
import secrets
from pathlib import Path

import pytest

# The token that the tests' cluster and its jobs share. Ray reads it when it is imported: before any test.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real audio (corpora, longform, odd), no part of the project: its tests skip without it."""
    folder = Path(os.environ.get("ZSFUSE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real audio is not here: {folder} (set ZSFUSE_SHARED to its folder)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole jobs on a cluster come last: what is quick fails first."""
    items.sort(key=lambda item: item.path.parent.name == "jobs")
