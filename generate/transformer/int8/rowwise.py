"""What lies between the products of the compiled pass, for one row each: sums, norms, activations, rounding to int8."""

import numpy as np

from generate.compiled.arithmetic import ONE, ROUND, exactly, exp, small
from generate.compiled.tiles import bits_of, float_of, sum_of, sum_of_squares

LEVELS, ZERO, ALL_LEVELS = np.float32(127), 128, np.float32(255)
SQRT_8_OVER_PI = np.float32((8 / np.pi) ** 0.5)
CUBE = np.float32((8 / np.pi) ** 0.5 * 0.044715)
HALVES = np.float32(2.0**112)
GELU_NEW, GELU, RELU, SILU = range(4)
HALF, SQRT_HALF = np.float32(0.5), np.float32(0.5**0.5)


@small
def erf(x):
    """Source: Abramowitz & Stegun 7.1.26, within 1.5e-7."""
    t = ONE / (ONE + np.float32(0.3275911) * abs(x))
    y = np.float32(1.061405429) * t - np.float32(1.453152027)
    y = y * t + np.float32(1.421413741)
    y = y * t - np.float32(0.284496736)
    y = y * t + np.float32(0.254829592)
    y = ONE - y * t * exp(-x * x)
    return -y if x < np.float32(0) else y


@exactly
def largest(x):
    """The largest magnitude; NaN where there is one, whose bits are larger than any number's."""
    bits = np.int32(0)
    for i in range(len(x)):
        bits = max(bits, np.int32(bits_of(x[i]) & 0x7FFFFFFF))
    return float_of(bits)


@exactly
def quantise(x, whole):
    """Round a row to -127..127, as 1..255 around 128; returns the size of a level."""
    peak = largest(x)
    factor = LEVELS / peak  # a row of zeros: whatever 0 * infinity becomes, the size of a level is zero
    for i in range(len(x)):
        whole[i] = bits_of(x[i] * factor + (ROUND + np.float32(ZERO))) & 255
    return peak / LEVELS


@exactly
def quantise_above(x, lowest, whole):
    """Round a row, of which nothing is less than `lowest`, to 0..255; returns the size of a level."""
    bits = np.int32(0)
    for i in range(len(x)):
        bits = max(bits, np.int32(bits_of(x[i] - lowest) & 0x7FFFFFFF))
    peak = float_of(bits)
    factor = ALL_LEVELS / peak
    for i in range(len(x)):
        whole[i] = bits_of((x[i] - lowest) * factor + ROUND) & 255
    return peak / ALL_LEVELS


@exactly
def embed(token, place, x):
    """x = token + place, the former as the bits of float16: those of a float32 that is 2^112 times as small, but for the sign."""
    for i in range(len(x)):
        half = np.int32(token[i])
        number = float_of(np.int32((half & 0x7FFF) << 13)) * HALVES
        x[i] = float_of(np.int32(bits_of(number) | (half & 0x8000) << 16)) + place[i]


@exactly
def add(x, y):
    """x += y."""
    for i in range(len(x)):
        x[i] += y[i]


@exactly
def normalise(x, norm, epsilon, y):
    """Layer norm of a row."""
    count = np.float32(len(x))
    mean = sum_of(x, 0, len(x)) / count
    for i in range(len(x)):
        y[i] = x[i] - mean
    factor = ONE / np.sqrt(sum_of_squares(y, 0, len(y)) / count + epsilon)
    for i in range(len(x)):
        y[i] = y[i] * factor * norm[0, i] + norm[1, i]


@exactly
def activate(x, kind):
    """The activation function of that `kind`, in place."""
    if kind == GELU_NEW:  # 0.5 x (1 + tanh(u)) as x sigmoid(2 u)
        for i in range(len(x)):
            x[i] = x[i] / (ONE + exp(-x[i] * (SQRT_8_OVER_PI + CUBE * x[i] * x[i])))
    elif kind == GELU:
        for i in range(len(x)):
            x[i] = HALF * x[i] * (ONE + erf(x[i] * SQRT_HALF))
    elif kind == SILU:
        for i in range(len(x)):
            x[i] = x[i] / (ONE + exp(-x[i]))
    else:
        for i in range(len(x)):
            x[i] = max(x[i], np.float32(0))
