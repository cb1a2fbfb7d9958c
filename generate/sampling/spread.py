"""How far the scores of a row are spread, for top_n_sigma: torch needs six passes over them, and float64."""

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.compiled.tiles import LANES, add_moments

PIECE = 128  # vectors whose sums are in float32, before float64 takes over
SURE = 1 - 1e-4  # of a sum of squares, whatever float32 has rounded in it
LOWEST = np.finfo(np.float32).min  # what is below is -inf, of a token that must not be chosen


@exactly
def mean_of(x):
    """The mean of the numbers that are not -inf, or 0."""
    total, count = 0.0, 0
    for i in range(len(x)):
        if x[i] >= LOWEST:
            total, count = total + x[i], count + 1
    return np.float32(total / count) if count else np.float32(0)


@exactly
def floor_of(x, peak, sigmas, least, lanes):
    """A row's largest score, `peak`, less `sigmas` standard deviations of all of its scores that are not -inf; LOWEST
    where sigmas is 0. `lanes` float32 [3, LANES] is for use in here.

    Where it is below `least`, which does not matter by how much, it may be LOWEST too: more scores only add squares, so
    that often a part of them tells.
    """
    if sigmas == 0:
        return LOWEST
    near = mean_of(x[:256])  # so near to the mean that squares of the distances lose nothing
    vectors, count, total, squares = len(x) // LANES, 0.0, 0.0, 0.0
    for start in range(0, vectors, PIECE):
        lanes[:] = 0
        add_moments(x, start * LANES, min(PIECE, vectors - start), near, LOWEST, lanes)
        for i in range(LANES):
            count += lanes[0, i]
            total += lanes[1, i]
            squares += lanes[2, i]
        if peak - sigmas * np.sqrt(max(0.0, squares * SURE - total * total / count) / len(x)) < least:
            return LOWEST
    for i in range(vectors * LANES, len(x)):
        if x[i] >= LOWEST:
            distance = x[i] - near
            count, total, squares = count + 1, total + distance, squares + distance * distance
    mean = total / count
    return np.float32(peak - sigmas * np.sqrt(max(0.0, squares / count - mean * mean)))
