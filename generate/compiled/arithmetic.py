"""How functions are compiled here, and what the kernels of several packages share.

Only this package imports numba: its `__init__` says first where the machine code is kept.
"""

import numpy as np
from numba import njit

from generate.compiled.tiles import bits_of, float_of

# a float32 that was added to this holds its integer, rounded to even, in its lowest bits
ROUND = np.float32(1.5 * 2**23)
LOG2_E, LN_2_HIGH, LN_2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
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
    y = np.float32(1.9875691500e-4)  # Source: Cephes, expf
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + ONE
    return float_of(np.int32(bits_of(y) + (bits_of(shifted) << 23)))
