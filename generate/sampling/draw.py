"""Drawing among a row's likeliest tokens in one pass: `sampler.draw_filtered` does it with 30 of torch's operators."""

import numpy as np

from generate.compiled.arithmetic import exactly

WORD = np.int64(0xFFFFFFFF)


@exactly
def mix(x):
    """As `noise.mix`."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & WORD
    x = ((x ^ (x >> 15)) * 0x846CA68B) & WORD
    return x ^ (x >> 16)


@exactly
def gumbel(first, second, token):
    """As `noise.gumbel`."""
    word = mix(mix((token + second) & WORD) ^ first)
    return np.float32(-np.log(-np.log((np.float64(word) + 0.5) * 2.0**-32)))


@exactly
def least_of_nucleus(values, top_p, least):
    """The least of the largest values that together hold a share `top_p` of those that are not below `least`."""
    total = 0.0
    for value in values:
        if value >= least:
            total += np.exp(np.float64(value - values[0]))
    held, found = 0.0, values[0]
    for value in values:
        if value < least or (held > 0 and np.float32(held / total) >= top_p):
            break
        found = value
        held += np.exp(np.float64(value - values[0]))
    return found


@exactly
def draw(values, ids, divisor, top_k, top_p, first, second, chosen, threshold, norm):
    """Choose a token for each row of values [B, K], the largest first, that belong to ids [B, K].

    Fills chosen, threshold and norm [B]; returns whether a row's ties may go on beyond its K likeliest.
    """
    beyond = False
    for row in range(len(values)):
        scaled = values[row] / divisor[row]
        least = scaled[min(top_k[row], len(scaled)) - 1]
        if top_p[row] < 1:
            least = least_of_nucleus(scaled, top_p[row], least)
        best, total = np.float32(-np.inf), 0.0
        chosen[row] = ids[row, 0]
        for i in range(len(scaled)):
            if not (scaled[i] >= least):
                break
            total += np.exp(np.float64(scaled[i] - scaled[0]))
            noisy = scaled[i] + gumbel(first[row], second[row], ids[row, i])
            if noisy > best:
                best, chosen[row] = noisy, ids[row, i]
        threshold[row], norm[row] = least, scaled[0] + np.float32(np.log(total))
        beyond |= scaled[-1] >= least
    return beyond
