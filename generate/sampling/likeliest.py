"""One look over logits: what statistics and sampling need of a whole row, and its likeliest tokens."""

import numpy as np

from generate.compiled.arithmetic import ONE, exactly, exp, maximum
from generate.compiled.tiles import LANES, add_shares, put_maxima

GROUP = 64  # as in put_maxima: the likeliest tokens are looked for in groups of this size whose maximum is large enough
PIECE = 128  # vectors whose sums are in float32, before float64 takes over
TRIES, HALF = 16, np.float32(0.5)


@exactly
def sums_below(x, peak, lanes):
    """The sums of e^(x - peak) and of (x - peak) e^(x - peak); `lanes` float32 [2, LANES] is for use in here."""
    vectors, total, weighted = len(x) // LANES, 0.0, 0.0
    for start in range(0, vectors, PIECE):
        lanes[:] = 0
        add_shares(x, start * LANES, min(PIECE, vectors - start), peak, lanes)
        for i in range(LANES):
            total += lanes[0, i]
            weighted += lanes[1, i]
    for i in range(vectors * LANES, len(x)):
        below = max(x[i] - peak, np.float32(-80))
        total, weighted = total + exp(below), weighted + exp(below) * below
    return np.float32(total), np.float32(weighted)


@exactly
def insert(value, place, values, ids, count):
    """Put a value into its place among `count` sorted ones, the largest first; of equal ones the first come first."""
    at = min(count, len(values) - 1)
    while at > 0 and values[at - 1] < value:
        values[at], ids[at] = values[at - 1], ids[at - 1]
        at -= 1
    values[at], ids[at] = value, place


@exactly
def reaching(x, least):
    """How many numbers are at least as large as `least`."""
    count = 0
    for i in range(len(x)):
        count += x[i] >= least
    return count


@exactly
def reached_by(x, few):
    """A number that at least `few` of x reach, and not many more; -inf where there is none, or where none is soon found.

    Halving an interval looks at x some eight times, and finds it in a fifth of the time of a partition.
    """
    high = maximum(x)
    low = high - ONE
    count = reaching(x, low)
    for _ in range(TRIES):
        if count >= few:
            break
        low -= high - low
        count = reaching(x, low)
    if count < few:
        return np.float32(-np.inf)
    for _ in range(TRIES):
        if count <= few + few // 4:
            break
        middle = (low + high) * HALF
        above = reaching(x, middle)
        if above >= few:
            low, count = middle, above
        else:
            high = middle
    return low


@exactly
def top(x, maxima, values, ids):
    """The largest of a row, sorted. Exact: len(values) groups hold a value as large as `least`, so no less one comes in."""
    size, few, groups = len(x), len(values), len(maxima)
    least = reached_by(maxima, few)
    count, values[:], ids[:] = 0, np.float32(-np.inf), 0
    places = np.empty(GROUP, np.int64)
    for group in range(groups):
        if maxima[group] < least:
            continue
        large = 0  # counted without a branch, which a processor would guess wrong as often as not
        for i in range(group * GROUP, min(size, (group + 1) * GROUP)):
            places[large] = i
            large += x[i] >= least
        for i in places[:large]:
            if count < few or x[i] > values[few - 1]:
                insert(x[i], i, values, ids, count)
                count = min(count + 1, few)


@exactly
def largest_of_groups(x, maxima):
    """Fill maxima [ceil(V / GROUP)] with the largest of each GROUP numbers of x [V]; both float32."""
    whole = len(x) // GROUP
    put_maxima(x, 0, whole, maxima)
    if whole < len(maxima):
        maxima[whole] = maximum(x[whole * GROUP :])


@exactly
def find(logits, stride, size, values, ids):
    """The likeliest [B, FEW] alone, of rows as in `survey`; of equal ones those with the lowest ids, in their order."""
    maxima = np.empty((size + GROUP - 1) // GROUP, np.float32)
    for row in range(len(values)):
        x = logits[row * stride : row * stride + size]
        largest_of_groups(x, maxima)
        top(x, maxima, values[row], ids[row])


@exactly
def not_behind(value, token, other_value, other):
    """Whether a token with this value stands before another one, or is it."""
    return value > other_value or (value == other_value and token <= other)


@exactly
def put_again(value, token, values, ids, at):
    """Put a token into its place among sorted ones, of equal ones in the order of their ids; the one at `at` gives way."""
    while at > 0 and (values[at - 1] < value or (values[at - 1] == value and ids[at - 1] > token)):
        values[at], ids[at] = values[at - 1], ids[at - 1]
        at -= 1
    last = len(values) - 1
    while at < last and (values[at + 1] > value or (values[at + 1] == value and ids[at + 1] < token)):
        values[at], ids[at] = values[at + 1], ids[at + 1]
        at += 1
    values[at], ids[at] = value, token


@exactly
def find_again(logits, stride, size, needed, touched, before, maxima, values, ids):
    """The same of rows of which only the numbers at the flat indices `touched`, each once, which were `before`, are others
    than when `maxima` were found. Of a row only the first `needed` [B], 1 or more, are sure to be found.

    A token that stays among the likeliest, or comes in, is put into its place. One that goes out leaves one less that are
    known; only where they become too few the row is looked over. `maxima` are brought up to date.
    """
    few = values.shape[1]
    known, least = np.full(len(values), few), np.minimum(needed, few)
    for i in range(len(touched)):
        place, row = touched[i], touched[i] // stride
        token, value = place - row * stride, logits[place]
        group = token // GROUP
        if before[i] >= maxima[row, group]:
            first = row * stride + group * GROUP
            maxima[row, group] = maximum(logits[first : min(first + GROUP, row * stride + size)])
        elif value > maxima[row, group]:
            maxima[row, group] = value
        if known[row] < least[row]:
            continue
        last = values[row, known[row] - 1], ids[row, known[row] - 1]
        was, stays = not_behind(before[i], token, *last), not_behind(value, token, *last)
        if not (was or stays):
            continue
        if not was:
            known[row] = min(known[row] + 1, few)
        at = known[row] - 1
        while was and ids[row, at] != token:
            at -= 1
        put_again(value, token, values[row, : known[row]], ids[row], at)
        known[row] -= not stays
    for row in range(len(values)):
        if known[row] < least[row]:
            top(logits[row * stride : row * stride + size], maxima[row], values[row], ids[row])


@exactly
def above(x, least):
    """How many numbers are larger than `least`."""
    count = 0
    for i in range(len(x)):
        count += x[i] > least
    return count


@exactly
def tell(logits, stride, size, width, tokens, log_z, entropy, values, ids, floats, whole):
    """What `statistics.statistics` tells of the `tokens` [B], of rows as in `survey`, of which log_z and entropy are [B, 1] and
    the likeliest `values` and `ids` [B, FEW]. Fills floats [B, 3 + width] and whole [B, 1 + width], or the beginning of wider
    ones."""
    for row in range(len(tokens)):
        chosen = logits[row * stride + tokens[row]]
        count = above(values[row], chosen)
        if count == values.shape[1]:
            count = above(logits[row * stride : row * stride + size], chosen)
        floats[row, 0], floats[row, 1], floats[row, 2] = chosen - log_z[row, 0], entropy[row, 0], log_z[row, 0]
        whole[row, 0] = 1 + count
        for i in range(width):
            floats[row, 3 + i], whole[row, 1 + i] = values[row, i] - log_z[row, 0], ids[row, i]


@exactly
def survey(logits, stride, size, log_z, entropy, values, ids, maxima):
    """Log-sum-exp, entropy [B] and the likeliest [B, FEW] of rows of `size` logits that begin every `stride` numbers.

    Fills also the maxima of their groups, [B, G].

    `logits` is flat: numba takes a row of a wider array for one with gaps, and does not vectorise what it does there.
    """
    lanes = np.empty((2, LANES), np.float32)
    for row in range(len(log_z)):
        x = logits[row * stride : row * stride + size]
        largest_of_groups(x, maxima[row])
        peak = maximum(maxima[row])
        total, weighted = sums_below(x, peak, lanes)
        log_z[row] = peak + np.log(total)
        entropy[row] = np.log(total) - weighted / total
        top(x, maxima[row], values[row], ids[row])
