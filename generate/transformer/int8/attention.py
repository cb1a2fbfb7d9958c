"""Attention over pages: pool [pages, n_layer, 2, n_head, PAGE positions * width], keys and then values."""

import numpy as np

from generate.compiled.arithmetic import ONE, exactly, exp, maximum
from generate.compiled.tiles import LANES, add_values_1, add_values_4, put, scores_of, sum_of

PAGE = 64  # positions of a page


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
    """Scores to shares, in place."""
    peak = maximum(scores)
    for i in range(len(scores)):
        scores[i] = exp(scores[i] - peak)
    share = ONE / sum_of(scores, 0, len(scores))
    for i in range(len(scores)):
        scores[i] *= share


@exactly
def attend(pool, layer, tables, rows, positions, queries, scores, sums, first_head, last_head):
    """Attention of a few tokens, each over all positions of its row up to its own; `sums` [T, n_head * width] for the heads
    from `first_head` up to `last_head`.

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
            for head in range(first_head, last_head):
                to = (i * heads + head) * of_head + start
                scores_of(queries, i * of_query + head * width, pool, keys + head * tile, here, width, scores, to)
    sums[:, first_head * width : last_head * width] = np.float32(0)
    for i in range(len(rows)):
        for head in range(first_head, last_head):
            softmax(scores[i, head, : positions[i] + 1])
    for start in range(0, longest, PAGE):
        for i in range(len(rows)):
            here = min(PAGE, positions[i] + 1 - start)
            if here <= 0:
                continue
            values = tables[rows[i], start // PAGE] * layers * 2 * heads * tile + of_layer + heads * tile
            for head in range(first_head, last_head):
                first, to = (i * heads + head) * of_head + start, i * of_sum + head * width
                for part in range(0, width // 64 * 64, 64):
                    add_values_4(scores, first, here, pool, values + head * tile + part, width, sums, to + part)
                for part in range(width // 64 * 64, width, LANES):
                    add_values_1(scores, first, here, pool, values + head * tile + part, width, sums, to + part)
