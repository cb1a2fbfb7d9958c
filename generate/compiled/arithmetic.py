"""How functions are compiled here, and what the kernels of several packages share.

Only this package imports numba: its `__init__` says first where the machine code is kept.
"""

import numpy as np
from numba import njit

from generate.compiled import writer
from generate.compiled.tiles import bits_of, float_of

ROUND, LOG2_E, LN_2_HIGH, LN_2_LOW = map(np.float32, (writer.ROUND, writer.LOG2_E, writer.LN_2_HIGH, writer.LN_2_LOW))
A, B, C, D, E, F = map(np.float32, writer.POLYNOMIAL)
ONE = np.float32(1)

# No fastmath: what LLVM may reorder or contract is not the same in a function that was compiled just now and in one that
# comes from numba's cache, and with it a row's last bits. Sums in a fast order are in `tiles`, where the order is written.
exactly = njit(nogil=True, cache=True, error_model="numpy")
small = njit(forceinline=True, error_model="numpy")  # LLVM vectorises no loop that makes calls
searching = njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz"})  # as LLVM's maximum needs


@searching
def maximum(x):
    """The largest number of a row; where there is a NaN, any."""
    largest = x[0]
    for i in range(len(x)):
        largest = max(largest, x[i])
    return largest


@small
def exp(x):
    """e^x within 1e-7 relative; below -87 it is that of -87, above 88 that of 88."""
    x = np.float32(-87) if x < np.float32(-87) else x
    x = np.float32(88) if x > np.float32(88) else x
    shifted = x * LOG2_E + ROUND
    power = shifted - ROUND
    x = x - power * LN_2_HIGH - power * LN_2_LOW
    y = ((((A * x + B) * x + C) * x + D) * x + E) * x + F
    y = y * x * x + x + ONE
    return float_of(np.int32(bits_of(y) + (bits_of(shifted) << 23)))
