"""Frequency and presence penalty in one pass over the scores; torch needs five."""

import numpy as np

from generate.compiled.arithmetic import exactly


@exactly
def lower(scores, stride, counts, frequency, presence, found):
    """Fill found [B, V] as `filters.lowered` does; `scores` is flat, as in `likeliest.survey`."""
    size = found.shape[1]
    for row in range(len(found)):
        x = scores[row * stride : row * stride + size]
        for i in range(size):
            once = presence[row] if counts[row, i] > 0 else np.float32(0)
            found[row, i] = x[i] - frequency[row] * np.float32(counts[row, i]) - once
