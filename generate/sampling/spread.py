"""How far the scores of a row are spread, for top_n_sigma: torch needs six passes over them, and float64."""

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.compiled.tiles import sum_of, sum_of_squares

PIECE = 2048  # numbers that are summed in float32 before float64 takes over
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
def floor_of(x, peak, sigmas, piece):
    """A row's largest score, `peak`, less `sigmas` standard deviations of all of its scores that are not -inf; LOWEST
    where sigmas is 0. `piece` [PIECE] is for use in here."""
    if sigmas == 0:
        return LOWEST
    near, total, squares, count = np.float32(0), 0.0, 0.0, len(x)
    for start in range(0, len(x), PIECE):
        part = x[start : min(start + PIECE, len(x))]
        if start == 0:
            near = mean_of(part)  # so near to the mean that squares of the distances lose nothing
        for i in range(len(part)):
            piece[i] = part[i] - near
        added = sum_of(piece, 0, len(part))
        if not np.isfinite(added):
            for i in range(len(part)):
                if part[i] < LOWEST:
                    piece[i], count = np.float32(0), count - 1
            added = sum_of(piece, 0, len(part))
        total += added
        squares += sum_of_squares(piece, 0, len(part))
    mean = total / count
    return np.float32(peak - sigmas * np.sqrt(max(0.0, squares / count - mean * mean)))
