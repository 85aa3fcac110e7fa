"""A folder written by save_pretrained."""

from pathlib import Path

import pytest

from zsfuse_ray.models.untrained import untrained_specialist


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "specialist"
    untrained_specialist(folder)
    return folder
