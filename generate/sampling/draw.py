"""Drawing among a row's likeliest tokens in one pass: `ways.draw_sorted` does it with 30 of torch's operators."""

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.sampling.spread import LANES, floor_of

WORD = np.int64(0xFFFFFFFF)
COIN = WORD  # as `noise.COIN`


@exactly
def mix(x):
    """As `noise.mix`."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & WORD
    x = ((x ^ (x >> 15)) * 0x846CA68B) & WORD
    return x ^ (x >> 16)


@exactly
def uniform(first, second, token):
    """As `noise.uniform`."""
    return (np.float64(mix(mix((token + second) & WORD) ^ first)) + 0.5) * 2.0**-32


@exactly
def gumbel(first, second, token):
    """As `noise.gumbel`."""
    return np.float32(-np.log(-np.log(uniform(first, second, token))))


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
def take(scaled, ids, first, second):
    """The token that the noise chooses, and the log-sum-exp of all."""
    best, total, chosen = np.float32(-np.inf), 0.0, ids[0]
    for i in range(len(scaled)):
        total += np.exp(np.float64(scaled[i] - scaled[0]))
        noisy = scaled[i] + gumbel(first, second, ids[i])
        if noisy > best:
            best, chosen = noisy, ids[i]
    return chosen, scaled[0] + np.float32(np.log(total))


@exactly
def draw(values, ids, divisor, top_k, top_p, first, second, chosen, threshold, last, norm):
    """Choose a token for each row of values [B, K], the largest first, that belong to ids [B, K]; top_k is at most K.

    Fills chosen, threshold, last and norm [B].
    """
    for row in range(len(values)):
        scaled = (values[row] / divisor[row])[: top_k[row]]
        if top_p[row] < 1:
            scaled = scaled[: nucleus(scaled, top_p[row])]
        chosen[row], norm[row] = take(scaled, ids[row], first[row], second[row])
        threshold[row], last[row] = values[row, len(scaled) - 1], ids[row, len(scaled) - 1]


@exactly
def as_likely(scaled, least):
    """How many of the largest values are no further below the first than `least`, a negative number; at least 1."""
    count = 1
    while count < len(scaled) and scaled[count] - scaled[0] >= least:
        count += 1
    return count


@exactly
def obvious(scaled, threshold):
    """How many of the largest values XTC leaves out: all with a share of at least `threshold` but the last of them."""
    total, count = 0.0, 0
    for value in scaled:
        total += np.exp(np.float64(value - scaled[0]))
    while count < len(scaled) and np.float32(np.exp(np.float64(scaled[count] - scaled[0])) / total) >= threshold:
        count += 1
    return max(0, count - 1)


# fmt: off
@exactly
def draw_filtered(scores, stride, size, values, ids, divisor, top_k, top_p, sigmas, least, chance, common, first, second,
                  done, whole, real):
    # fmt: on
    """As `draw`, with top_n_sigma, min_p and XTC, of rows whose top_k may be larger than K, or 0.

    `scores` are all of a row's, flat as in `likeliest.survey`. `least` is the log of min_p, `chance` and `common` are
    xtc_probability and xtc_threshold, all [B]. Fills whole [3, B] with chosen, last and head, and real [3, B] with
    threshold, norm and ceiling; head and ceiling are the id and the value of the first token kept. Where more than the K
    likeliest may be kept, `done` is false, and the rest of the row is not filled.
    """
    lanes = np.empty((3, LANES), np.float32)
    for row in range(len(values)):
        few = values.shape[1]
        most = top_k[row] if top_k[row] > 0 else size
        count = min(few, most)
        x = scores[row * stride : row * stride + size]
        floor = floor_of(x, values[row, 0], sigmas[row], values[row, count - 1], lanes)
        while count > 1 and values[row, count - 1] < floor:
            count -= 1
        known = count < few or most <= few or size <= few  # whether no other token is kept
        scaled = (values[row] / divisor[row])[:count]
        done[row] = known or top_p[row] >= 1
        if not done[row]:
            continue
        if top_p[row] < 1:
            scaled = scaled[: nucleus(scaled, top_p[row])]
        scaled = scaled[: as_likely(scaled, least[row])]
        done[row] = known or len(scaled) < count
        if not done[row]:
            continue
        end, start = len(scaled), 0
        if uniform(first[row], second[row], COIN) < chance[row]:
            start = obvious(scaled, common[row])
        whole[0, row], real[1, row] = take(scaled[start:], ids[row, start:], first[row], second[row])
        whole[1, row], real[0, row] = ids[row, end - 1], values[row, end - 1]
        whole[2, row], real[2, row] = ids[row, start], values[row, start]
