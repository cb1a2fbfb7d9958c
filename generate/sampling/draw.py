"""Drawing among a row's likeliest tokens in one pass: `sampler.draw_sorted` does it with 30 of torch's operators."""

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
def nucleus(values, top_p):
    """How many of the largest values together hold a share `top_p` of all of them; at least 1."""
    total = 0.0
    for value in values:
        total += np.exp(np.float64(value - values[0]))
    held = 0.0
    for count in range(len(values)):
        if held > 0 and np.float32(held / total) >= top_p:
            return count
        held += np.exp(np.float64(values[count] - values[0]))
    return len(values)


@exactly
def draw(values, ids, divisor, top_k, top_p, first, second, chosen, threshold, last, norm):
    """Choose a token for each row of values [B, K], the largest first, that belong to ids [B, K]; top_k is at most K.

    Fills chosen, threshold, last and norm [B].
    """
    for row in range(len(values)):
        scaled = (values[row] / divisor[row])[: top_k[row]]
        if top_p[row] < 1:
            scaled = scaled[: nucleus(scaled, top_p[row])]
        best, total = np.float32(-np.inf), 0.0
        chosen[row] = ids[row, 0]
        for i in range(len(scaled)):
            total += np.exp(np.float64(scaled[i] - scaled[0]))
            noisy = scaled[i] + gumbel(first[row], second[row], ids[row, i])
            if noisy > best:
                best, chosen[row] = noisy, ids[row, i]
        threshold[row], last[row] = values[row, len(scaled) - 1], ids[row, len(scaled) - 1]
        norm[row] = scaled[0] + np.float32(np.log(total))
