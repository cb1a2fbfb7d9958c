"""How far the scores of a row are spread, for top_n_sigma: torch needs six passes over them, and float64."""

import numpy as np

from generate.compiled.arithmetic import ONE, exactly

LANES = 256  # sums in float32, side by side, before float64 takes over
ZERO = np.float32(0)
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
def floor_of(x, peak, sigmas, sums):
    """A row's largest score, `peak`, less `sigmas` standard deviations of all of its scores that are not -inf; LOWEST
    where sigmas is 0. `sums` float32 [3, LANES] is for use in here."""
    if sigmas == 0:
        return LOWEST
    near = mean_of(x[:LANES])  # so near to the mean that squares of the distances lose nothing
    counts, firsts, seconds = sums[0], sums[1], sums[2]
    sums[:], count, total, squares = 0, 0.0, 0.0, 0.0
    for start in range(0, len(x), LANES):
        part = x[start : min(start + LANES, len(x))]
        for i in range(len(part)):
            there = part[i] >= LOWEST
            distance = part[i] - near if there else ZERO
            counts[i] += ONE if there else ZERO
            firsts[i] += distance
            seconds[i] += distance * distance
    for i in range(LANES):
        count += counts[i]
        total += firsts[i]
        squares += seconds[i]
    mean = total / count
    return np.float32(peak - sigmas * np.sqrt(max(0.0, squares / count - mean * mean)))
