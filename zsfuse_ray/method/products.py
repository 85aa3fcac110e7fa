"""Matrix products in which a row does not depend on how many others there are."""

import numpy as np
from numpy.typing import NDArray

ROWS = 64  # of a block: a multiple of the rows that BLAS computes at once


def row_products(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    """Return x @ y, (n, C), of x (n, F) and y (F, C), in float64.

    BLAS chooses its kernel by the number of rows, and kernels round differently. Blocks of a fixed size make
    a segment's posterior the same whatever is labelled together with it.
    """
    x, y = (np.ascontiguousarray(value, np.float64) for value in (x, y))
    found = np.empty((len(x), y.shape[1]))
    for start in range(0, len(x), ROWS):
        block = x[start : start + ROWS]
        rows = len(block)
        if rows < ROWS:
            block = np.concatenate([block, np.zeros((ROWS - rows, x.shape[1]))])
        found[start : start + rows] = (block @ y)[:rows]
    return found
