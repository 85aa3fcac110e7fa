"""Length of resampled audio, without importing torch."""

import math
from fractions import Fraction


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Return the number of samples after resampling: ceil(n · to_rate / from_rate)."""
    if from_rate == to_rate:
        return samples
    ratio = Fraction(from_rate, to_rate).limit_denominator(1000)
    return math.ceil(samples * ratio.denominator / ratio.numerator)
