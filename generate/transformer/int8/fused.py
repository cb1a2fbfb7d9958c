"""GPT-2's pass in int8 as one compiled function: each row is computed as if it were alone.

Activations are scaled row by row to -127..127 and travel as uint8 with zero point 128; the products are exact in int32.
Attention reads each row's keys and values page by page and no further than the row is long.
"""

from typing import NamedTuple

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.compiled.tiles import PANEL, PER_STEP, product_1, product_2, product_4, product_8
from generate.transformer.int8.attention import PAGE, attend, write_page
from generate.transformer.int8.packing import Linear
from generate.transformer.int8.rowwise import activate, add, normalise, quantise, quantise_above

TOGETHER = 8  # tokens that read a page one after the other, if their rows begin with the same


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
