"""Weights as levels in int8: read once for their peaks and once to be rounded, in the order in which they are stored."""

import numpy as np

from generate.compiled.arithmetic import ROUND, exactly
from generate.compiled.tiles import PANEL, PER_STEP, bits_of, float_of
from generate.compiled.writer import PLACES

SHIFTS = np.array(PLACES, np.int32) * np.int32(8)
LEVELS, LEAST = np.float32(127), np.float32(1e-20)


@exactly
def scale_of(peak):
    """The size of a level where the largest magnitude has these bits."""
    return max(float_of(peak) / LEVELS, LEAST)


@exactly
def pack_columns(weight, bits, words, scale, sums):
    """Round weight float32 [in, out], each output by its own scale, into zeroed words int32 [panels, steps, 32], four inputs in
    each; `bits` is weight as int32. Tells the scales and the sums of the levels [at least out]."""
    inputs, outputs = weight.shape
    peaks, zero = np.zeros(outputs, np.int32), np.int32(bits_of(ROUND))
    for i in range(inputs):
        row = bits[i]
        for j in range(outputs):
            peaks[j] = max(peaks[j], np.int32(row[j] & 0x7FFFFFFF))
    for j in range(outputs):
        scale[j] = scale_of(peaks[j])
    for i in range(inputs):
        step, shift = i // PER_STEP, SHIFTS[i % PER_STEP]
        for to in range(0, outputs, PANEL):
            row, size, total, packed = weight[i, to : to + PANEL], scale[to:], sums[to:], words[to // PANEL, step]
            for j in range(len(row)):
                level = np.int32(bits_of(row[j] / size[j] + ROUND) - zero)
                total[j] += level
                packed[j] |= np.int32((level & 255) << shift)


@exactly
def pack_rows(weight, bits, words, scale, sums):
    """The same of a weight [out, in]."""
    outputs, inputs = weight.shape
    zero = np.int32(bits_of(ROUND))
    for to in range(outputs):
        peak = np.int32(0)
        for i in range(inputs):
            peak = max(peak, np.int32(bits[to, i] & 0x7FFFFFFF))
        size, total = scale_of(peak), np.int32(0)
        panel, j = to // PANEL, to % PANEL
        for i in range(inputs):
            level = np.int32(bits_of(weight[to, i] / size + ROUND) - zero)
            total += level
            words[panel, i // PER_STEP, j] |= np.int32((level & 255) << SHIFTS[i % PER_STEP])
        scale[to], sums[to] = size, total
