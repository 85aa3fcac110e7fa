"""Fixtures for all tests."""

import os
import secrets
from pathlib import Path

import pytest

# The token shared by the tests' cluster and its jobs. Set here because Ray reads it at import.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real audio (corpora, longform, odd), not part of the project; tests skip without it."""
    folder = Path(os.environ.get("ZSFUSE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real audio at {folder} (set ZSFUSE_SHARED to it)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests of whole jobs last, so that quick tests fail first."""
    items.sort(key=lambda item: item.path.parent.name == "jobs")
