"""The usual way of a row, from its logits to all that is told of its token, in one compiled call."""

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.sampling.draw import draw
from generate.sampling.likeliest import GROUP, survey, tell


@exactly
def choose_and_tell(logits, stride, size, few, width, divisor, top_k, top_p, first, second, tokens, floats, whole):
    """Choose a token for each row among its `few` likeliest, and tell of it.

    Logits are as in `likeliest.survey`, the options [B] as in `draw.draw`. Fills tokens [B], floats [B, 5 + width] and whole
    [B, 2 + width], as a `statistics.Report` of sampled tokens has them.
    """
    rows = len(divisor)
    log_z, entropy = np.empty(rows, np.float32), np.empty(rows, np.float32)
    values, ids = np.empty((rows, few), np.float32), np.empty((rows, few), np.int64)
    maxima = np.empty((rows, -(-size // GROUP)), np.float32)
    threshold, last, norm = np.empty(rows, np.float32), np.empty(rows, np.int64), np.empty(rows, np.float32)
    survey(logits, stride, size, log_z, entropy, values, ids, maxima)
    draw(values, ids, divisor, top_k, top_p, first, second, tokens, threshold, last, norm)
    column = (rows, 1)
    tell(
        logits, stride, size, width, tokens, log_z.reshape(column), entropy.reshape(column), values, ids, floats, whole
    )
    for row in range(rows):
        floats[row, 3 + width] = logits[row * stride + tokens[row]] / divisor[row] - norm[row]
        floats[row, 4 + width] = norm[row] - log_z[row] / divisor[row]
        cut = 0
        for i in range(width):
            value, token = values[row, i], ids[row, i]
            behind = value < threshold[row] or (value == threshold[row] and token > last[row])
            cut |= (behind or value == np.float32(-np.inf)) << i
        whole[row, 1 + width] = cut
