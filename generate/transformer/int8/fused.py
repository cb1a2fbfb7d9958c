"""GPT-2's pass in int8 as one compiled function: each row is computed as if it were alone.

Activations are scaled row by row to -127..127 and travel as uint8 with zero point 128; the products are exact in int32.
Attention reads each row's keys and values page by page and no further than the row is long.
"""

from typing import NamedTuple

import numpy as np

from generate.compiled.arithmetic import ONE, ROUND, exactly, exp, maximum, small
from generate.compiled.tiles import (
    LANES,
    PANEL,
    PER_STEP,
    add_values_1,
    add_values_4,
    bits_of,
    float_of,
    product_1,
    product_2,
    product_4,
    product_8,
    put,
    scores_of,
    sum_of,
    sum_of_squares,
)

LEVELS, ZERO, ALL_LEVELS = np.float32(127), 128, np.float32(255)
SQRT_8_OVER_PI = np.float32((8 / np.pi) ** 0.5)
CUBE = np.float32((8 / np.pi) ** 0.5 * 0.044715)
PAGE = 64  # positions of a page
TOGETHER = 8  # tokens that read a page one after the other, if their rows begin with the same
GELU_NEW, GELU, RELU, SILU = range(4)
HALF, SQRT_HALF = np.float32(0.5), np.float32(0.5**0.5)


class Linear(NamedTuple):
    """One product of every layer: weights [n_layer, panels * steps * 128], the others [n_layer, outputs]."""

    weight: np.ndarray  # int8, in the order in which `product_8` reads it
    start: np.ndarray  # int32: -128 times the weights' sums, which the zero point adds
    scale: np.ndarray  # float32
    bias: np.ndarray  # float32


class Weights(NamedTuple):
    """All of a model but its head's product."""

    tokens: np.ndarray  # [vocab_size, n_embd]
    places: np.ndarray  # [n_positions, n_embd]
    norm_1: np.ndarray  # [n_layer, 2, n_embd]
    qkv: Linear
    attention_out: Linear
    norm_2: np.ndarray
    mlp_in: Linear
    mlp_out: Linear
    final_norm: np.ndarray  # [1, 2, n_embd]


def round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def empty_linear(layers: int, inputs: int, outputs: int) -> Linear:
    inputs, outputs = round_up(inputs, PER_STEP), round_up(outputs, PANEL)
    one = (layers, outputs)
    return Linear(
        np.zeros((layers, inputs * outputs), np.int8),
        np.zeros(one, np.int32),
        np.zeros(one, np.float32),
        np.zeros(one, np.float32),
    )


def fill_linear(linear, layer: int, weight: np.ndarray, bias: np.ndarray | None, lowest: float | None = None) -> None:
    """Quantise weight [in, out] with a scale per output and lay it out in panels [out / 32, in / 4, 32, 4].

    `lowest` is what `quantise_above` is given for the inputs, None if they are rounded by `quantise`.
    """
    inputs, outputs = weight.shape
    scale = np.maximum(np.abs(weight).max(0) / LEVELS, np.float32(1e-20))
    whole = np.zeros((round_up(inputs, PER_STEP), linear.scale.shape[1]), np.int8)
    whole[:inputs, :outputs] = np.rint(weight / scale)
    panels = whole.reshape(-1, PER_STEP, whole.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1)
    linear.weight[layer].reshape(panels.shape)[:] = panels
    linear.scale[layer, :outputs] = scale
    if bias is not None:
        linear.bias[layer, :outputs] = bias
    sums = whole.sum(0, dtype=np.int32)
    if lowest is None:
        linear.start[layer] = -ZERO * sums
    else:
        linear.bias[layer] += sums * linear.scale[layer] * np.float32(lowest)


# What lies between the products, for one row each


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
    """Round a row to -127..127, as uint8 around 128; returns the size of a level."""
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
def add(x, y):
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


# Products


@exactly
def multiply(x, size, linear, layer, out):
    """out = x W + b for all rows: the weights are read once from memory, a panel's next ones while it is worked on."""
    rows, inputs = x.shape
    steps, stride = inputs // PER_STEP, out.shape[1]
    weight, start, scale, bias = linear.weight[layer], linear.start[layer], linear.scale[layer], linear.bias[layer]
    groups = (rows >> 3) + (rows >> 2 & 1) + (rows >> 1 & 1) + (rows & 1)
    pace = inputs * PANEL // steps // groups
    for to in range(0, len(scale), PANEL):
        panel, row = to * inputs, 0
        ahead = panel if groups == 1 else panel + inputs * PANEL
        while row < rows:
            left, at, into = rows - row, row * inputs, row * stride + to
            # fmt: off
            if left >= 8:
                product_8(x, at, inputs, weight, panel, steps, ahead, pace, start, scale, bias, to, size, row, out, into, stride)
                row += 8
            elif left >= 4:
                product_4(x, at, inputs, weight, panel, steps, ahead, pace, start, scale, bias, to, size, row, out, into, stride)
                row += 4
            elif left >= 2:
                product_2(x, at, inputs, weight, panel, steps, ahead, pace, start, scale, bias, to, size, row, out, into, stride)
                row += 2
            else:
                product_1(x, at, inputs, weight, panel, steps, ahead, pace, start, scale, bias, to, size, row, out, into, stride)
                row += 1
            # fmt: on
            ahead += steps * pace


# Attention over pages: pool [pages, n_layer, 2, n_head, PAGE positions * width], keys and then values


@exactly
def write_page(pool, page, layer, lane, key, value):
    """Put a position's key and value into its place."""
    _, layers, _, heads, tile = pool.shape
    width = tile // PAGE
    to = (page * layers + layer) * 2 * heads * tile + lane * width
    for head in range(heads):
        for i in range(width):
            put(pool, to + head * tile + i, key[head * width + i])
        for i in range(width):
            put(pool, to + (heads + head) * tile + i, value[head * width + i])


@exactly
def softmax(scores):
    peak = maximum(scores)
    for i in range(len(scores)):
        scores[i] = exp(scores[i] - peak)
    share = ONE / sum_of(scores, 0, len(scores))
    for i in range(len(scores)):
        scores[i] *= share


@exactly
def attend(pool, layer, tables, rows, positions, queries, scores, sums):
    """Attention of a few tokens, each over all positions of its row up to its own; `sums` [T, n_head * width].

    Page by page, and all heads of one together: memory is read in pieces of n_head * width * 64 numbers, and what
    several tokens read (of a text that is being read, of a prompt that samples share) is read once for all.
    """
    # places are counted in numbers here: slices of arrays would be counted in and out, atomically, at every turn
    _, layers, _, heads, tile = pool.shape
    width, longest = tile // PAGE, positions.max() + 1
    of_layer, of_head, of_query, of_sum = layer * 2 * heads * tile, scores.shape[2], queries.shape[1], sums.shape[1]
    for start in range(0, longest, PAGE):
        for i in range(len(rows)):
            here = min(PAGE, positions[i] + 1 - start)
            if here <= 0:
                continue
            keys = tables[rows[i], start // PAGE] * layers * 2 * heads * tile + of_layer
            for head in range(heads):
                to = (i * heads + head) * of_head + start
                scores_of(queries, i * of_query + head * width, pool, keys + head * tile, here, width, scores, to)
    sums[:] = np.float32(0)
    for i in range(len(rows)):
        for head in range(heads):
            softmax(scores[i, head, : positions[i] + 1])
    for start in range(0, longest, PAGE):
        for i in range(len(rows)):
            here = min(PAGE, positions[i] + 1 - start)
            if here <= 0:
                continue
            values = tables[rows[i], start // PAGE] * layers * 2 * heads * tile + of_layer + heads * tile
            for head in range(heads):
                first, to = (i * heads + head) * of_head + start, i * of_sum + head * width
                for part in range(0, width // 64 * 64, 64):
                    add_values_4(scores, first, here, pool, values + head * tile + part, width, sums, to + part)
                for part in range(width // 64 * 64, width, LANES):
                    add_values_1(scores, first, here, pool, values + head * tile + part, width, sums, to + part)


# The pass


@exactly
def hidden(w, pool, tables, ids, rows, positions, activation, lowest, epsilon, out):
    """Final hidden states [M, n_embd] of M tokens: token i is at positions[i] of the row whose pages are tables[rows[i]].

    Its keys and values are written there. A row's earlier tokens are in its pages already, or among these.
    """
    count, (layers, _, embd) = len(ids), w.norm_1.shape
    inner = pool.shape[3] * pool.shape[4] // PAGE
    qkv, up = rows_for(count, w.qkv), rows_for(count, w.mlp_in)
    x, y, z, mix = (
        out,
        rows_for(count, w.mlp_out),
        np.empty((count, embd), np.float32),
        np.empty((count, inner), np.float32),
    )
    whole, whole_mix, whole_up = (
        inputs_for(count, w.qkv),
        inputs_for(count, w.attention_out),
        inputs_for(count, w.mlp_out),
    )
    size = np.empty(count, np.float32)
    scores = np.empty((min(count, TOGETHER), pool.shape[3], positions.max() + 1), np.float32)
    for i in range(count):
        x[i] = w.tokens[ids[i]] + w.places[positions[i]]
    for layer in range(layers):
        for i in range(count):
            normalise(x[i], w.norm_1[layer], epsilon, z[i])
            size[i] = quantise(z[i], whole[i])
        multiply(whole, size, w.qkv, layer, qkv)
        for i in range(count):
            page, lane = tables[rows[i], positions[i] // PAGE], positions[i] % PAGE
            write_page(pool, page, layer, lane, qkv[i, inner : 2 * inner], qkv[i, 2 * inner : 3 * inner])
        j = 0
        while j < count:
            i = j
            while j < min(i + TOGETHER, count) and tables[rows[j], 0] == tables[rows[i], 0]:
                j += 1
            attend(pool, layer, tables, rows[i:j], positions[i:j], qkv[i:j], scores, mix[i:j])
        for i in range(count):
            size[i] = quantise(mix[i], whole_mix[i])
        multiply(whole_mix, size, w.attention_out, layer, y)
        for i in range(count):
            add(x[i], y[i])
            normalise(x[i], w.norm_2[layer], epsilon, z[i])
            size[i] = quantise(z[i], whole[i])
        multiply(whole, size, w.mlp_in, layer, up)
        for i in range(count):
            activate(up[i], activation)
            size[i] = quantise_above(up[i, : whole_up.shape[1]], lowest, whole_up[i])
        multiply(whole_up, size, w.mlp_out, layer, y)
        for i in range(count):
            add(x[i], y[i])
    for i in range(count):
        normalise(x[i], w.final_norm[0], epsilon, z[i])
    x[:] = z


@exactly
def rows_for(count, linear):
    """Room for what a product gives."""
    return np.empty((count, linear.scale.shape[1]), np.float32)


@exactly
def inputs_for(count, linear):
    """Room for what a product takes."""
    return np.zeros((count, linear.weight.shape[1] // linear.scale.shape[1]), np.uint8)


@exactly
def head(linear, x, out):
    """Logits [N, outputs] of hidden states [N, n_embd]."""
    whole = np.zeros((len(x), linear.weight.shape[1] // linear.scale.shape[1]), np.uint8)
    size = np.empty(len(x), np.float32)
    for i in range(len(x)):
        size[i] = quantise(x[i], whole[i])
    multiply(whole, size, linear, 0, out)
