"""GPT-2's pass in int8 as one compiled function: each row is computed as if it were alone.

Activations are scaled row by row to -127..127 and travel as bytes with zero point 128, which have 16 bits where
the processor multiplies such; the products are exact in int32.
Attention reads each row's keys and values page by page and no further than the row is long.

Several threads may call a function together, each as another of its `parts`: what lies between the products they share out
by rows, the products by their outputs, attention by its heads, and in between they meet. No number depends on how many they are.
"""

from typing import NamedTuple

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.compiled.meeting import meet
from generate.compiled.tiles import INPUT, PANEL, PER_STEP, product_1, product_2, product_4, product_8
from generate.transformer.int8.attention import PAGE, attend, write_page
from generate.transformer.int8.packing import Linear
from generate.transformer.int8.rowwise import activate, add, embed, normalise, quantise, quantise_above

TOGETHER = 8  # tokens that read a page one after the other, if their rows begin with the same


class Weights(NamedTuple):
    """All of a model but its head's product."""

    tokens: np.ndarray  # uint16, the bits of float16 [vocab_size, n_embd]
    places: np.ndarray  # [n_positions, n_embd]
    norm_1: np.ndarray  # [n_layer, 2, n_embd]
    qkv: Linear
    attention_out: Linear
    norm_2: np.ndarray
    mlp_in: Linear
    mlp_out: Linear
    final_norm: np.ndarray  # [1, 2, n_embd]


class Between(NamedTuple):
    """Room for what lies between the products of a pass over M tokens."""

    qkv: np.ndarray  # [M, 3 * inner]
    up: np.ndarray
    y: np.ndarray  # [M, n_embd]
    z: np.ndarray
    mix: np.ndarray  # [M, inner]
    whole: np.ndarray  # INPUT, as are the next two
    whole_mix: np.ndarray
    whole_up: np.ndarray
    size: np.ndarray  # [M]
    scores: np.ndarray  # [parts, TOGETHER, n_head, positions]


@exactly
def share(count, part, parts):
    """Where this part of `count` begins, and where it ends."""
    return count * part // parts, count * (part + 1) // parts


@exactly
def multiply(x, size, linear, layer, out, part, parts):
    """out = x W + b for all rows: the weights are read once from memory, a panel's next ones while it is worked on."""
    rows, inputs = x.shape
    steps, stride = inputs // PER_STEP, out.shape[1]
    weight, start, scale, bias = linear.weight[layer], linear.start[layer], linear.scale[layer], linear.bias[layer]
    groups = (rows >> 3) + (rows >> 2 & 1) + (rows >> 1 & 1) + (rows & 1)
    pace = inputs * PANEL // steps // groups
    first, last = share(len(scale) // PANEL, part, parts)
    for to in range(first * PANEL, last * PANEL, PANEL):
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
def room(w, pool, count, positions, parts):
    """Room for a pass over `count` tokens, none of them at more than so many positions, by so many threads."""
    embd, heads = w.norm_1.shape[2], pool.shape[3]
    return Between(
        rows_for(count, w.qkv),
        rows_for(count, w.mlp_in),
        rows_for(count, w.mlp_out),
        np.empty((count, embd), np.float32),
        np.empty((count, heads * (pool.shape[4] // PAGE)), np.float32),
        inputs_for(count, w.qkv),
        inputs_for(count, w.attention_out),
        inputs_for(count, w.mlp_out),
        np.empty(count, np.float32),
        np.empty((parts, min(count, TOGETHER), heads, positions), np.float32),
    )


@exactly
def hidden(w, pool, tables, ids, rows, positions, activation, lowest, epsilon, x, b, part, parts, gate):
    """Final hidden states x [M, n_embd] of M tokens: token i is at positions[i] of the row whose pages are tables[rows[i]].

    Its keys and values are written there. A row's earlier tokens are in its pages already, or among these. `b` is room for
    so many.
    """
    count, layers, inner = len(ids), w.norm_1.shape[0], b.mix.shape[1]
    first, last = share(count, part, parts)
    for i in range(first, last):
        embed(w.tokens[ids[i]], w.places[positions[i]], x[i])
    for layer in range(layers):
        for i in range(first, last):
            normalise(x[i], w.norm_1[layer], epsilon, b.z[i])
            b.size[i] = quantise(b.z[i], b.whole[i])
        meet(gate, parts)
        multiply(b.whole, b.size, w.qkv, layer, b.qkv, part, parts)
        meet(gate, parts)
        for i in range(first, last):
            page, lane = tables[rows[i], positions[i] // PAGE], positions[i] % PAGE
            write_page(pool, page, layer, lane, b.qkv[i, inner : 2 * inner], b.qkv[i, 2 * inner : 3 * inner])
        meet(gate, parts)
        some, end = share(pool.shape[3], part, parts)
        j = 0
        while j < count:
            i = j
            while j < min(i + TOGETHER, count) and tables[rows[j], 0] == tables[rows[i], 0]:
                j += 1
            attend(pool, layer, tables, rows[i:j], positions[i:j], b.qkv[i:j], b.scores[part], b.mix[i:j], some, end)
        meet(gate, parts)
        for i in range(first, last):
            b.size[i] = quantise(b.mix[i], b.whole_mix[i])
        meet(gate, parts)
        multiply(b.whole_mix, b.size, w.attention_out, layer, b.y, part, parts)
        meet(gate, parts)
        for i in range(first, last):
            add(x[i], b.y[i])
            normalise(x[i], w.norm_2[layer], epsilon, b.z[i])
            b.size[i] = quantise(b.z[i], b.whole[i])
        meet(gate, parts)
        multiply(b.whole, b.size, w.mlp_in, layer, b.up, part, parts)
        meet(gate, parts)
        for i in range(first, last):
            activate(b.up[i], activation)
            b.size[i] = quantise_above(b.up[i, : b.whole_up.shape[1]], lowest, b.whole_up[i])
        meet(gate, parts)
        multiply(b.whole_up, b.size, w.mlp_out, layer, b.y, part, parts)
        meet(gate, parts)
        for i in range(first, last):
            add(x[i], b.y[i])
    for i in range(first, last):
        normalise(x[i], w.final_norm[0], epsilon, b.z[i])
        x[i] = b.z[i]


@exactly
def rows_for(count, linear):
    """Room for what a product gives."""
    return np.empty((count, linear.scale.shape[1]), np.float32)


@exactly
def inputs_for(count, linear):
    """Room for what a product takes."""
    return np.zeros((count, linear.weight.shape[1] // linear.scale.shape[1]), INPUT)


@exactly
def head(linear, x, whole, size, out, part, parts, gate):
    """Logits `out` [N, outputs] of hidden states x [N, n_embd]; `whole` and `size` are room for the states in int8."""
    first, last = share(len(x), part, parts)
    for i in range(first, last):
        size[i] = quantise(x[i], whole[i])
    meet(gate, parts)
    multiply(whole, size, linear, 0, out, part, parts)
