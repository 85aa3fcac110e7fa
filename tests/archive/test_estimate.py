import pytest

from tests.archive.encoded_folders import MODELS
from zsfuse_ray.archive.estimate import BYTES_A_SEGMENT, SEGMENT_S, encoded_bytes


def test_size_of_encoded() -> None:
    """float16 embeddings of each distinct audio repeat, logits and vectors."""
    models = {key: MODELS[key] for key in ("alm", "specialist", "specialist2")}
    values = 2 * 3 * 6 + 2 * (4 + 5) + 2 * 4
    segments = 10 * 3600 / SEGMENT_S
    expected = segments * (values + BYTES_A_SEGMENT)
    assert encoded_bytes(10, models, {"alm": (1, 2, 3, 2)}) == pytest.approx(expected)
    assert encoded_bytes(10, {"alm": MODELS["alm"]}) == pytest.approx(segments * (12 + BYTES_A_SEGMENT))
    assert encoded_bytes(10) == pytest.approx(segments * (4096 + BYTES_A_SEGMENT))
    assert encoded_bytes(0) == 0
