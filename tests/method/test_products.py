import numpy as np
import pytest

from zsfuse_ray.method.products import ROWS, row_products


@pytest.mark.parametrize("shape", [(4, 3), (7, 3), (512, 8), (1024, 7), (1024, 256)])
@pytest.mark.parametrize("at_once", [1, 2, 3, 17, ROWS, 100])
def test_a_row_does_not_depend_on_the_others(shape: tuple[int, int], at_once: int):
    """To the last bit: on some processors, x @ y fails this for nearly all rows."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(201, shape[0])).astype(np.float32), rng.normal(size=shape)
    whole = row_products(x, y)
    np.testing.assert_allclose(whole, x.astype(float) @ y, rtol=1e-12, atol=1e-12)
    parts = [row_products(x[n : n + at_once], y) for n in range(0, len(x), at_once)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_no_rows():
    assert row_products(np.empty((0, 5)), np.ones((5, 3))).shape == (0, 3)
