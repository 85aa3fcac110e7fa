from pathlib import Path

import pytest
from encoded_folders import Small, small_archive


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return small_archive(tmp_path)
