"""How far the scores of a row are spread, for top_n_sigma: torch needs six passes over them, and float64."""

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.compiled.tiles import sum_of, sum_of_squares

PIECE = 2048  # numbers that are summed in float32 before float64 takes over
LOWEST = np.finfo(np.float32).min  # what is below is -inf, of a token that must not be chosen


@exactly
def floors(scores, stride, size, peaks, sigmas, found):
    """Fill found [B]: a row's largest score, `peaks`, less `sigmas` standard deviations of all of its scores that are
    not -inf; LOWEST where sigmas is 0. `scores` is flat, as in `likeliest.survey`."""
    piece, lowest = np.empty(PIECE, np.float32), LOWEST
    for row in range(len(found)):
        if sigmas[row] == 0:
            found[row] = lowest
            continue
        x = scores[row * stride : row * stride + size]
        total, squares, count = 0.0, 0.0, 0
        for start in range(0, size, PIECE):
            width = min(PIECE, size - start)
            for i in range(width):
                there = x[start + i] >= lowest
                piece[i] = x[start + i] if there else np.float32(0)
                count += there
            total += sum_of(piece, 0, width)
        mean = np.float32(total / count)
        for start in range(0, size, PIECE):
            width = min(PIECE, size - start)
            for i in range(width):
                piece[i] = x[start + i] - mean if x[start + i] >= lowest else np.float32(0)
            squares += sum_of_squares(piece, 0, width)
        found[row] = np.float32(peaks[row] - sigmas[row] * np.sqrt(squares / count))
