"""Where threads that share a piece of compiled work wait for each other.

They meet a hundred times in a pass of the model, which is over in milliseconds: whoever is early looks again and again,
and lets others run where that takes long.
"""

import os

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from generate.compiled.arithmetic import exactly
from generate.compiled.writer import INT64, Writer

PATIENCE = 2000  # looks (some ten microseconds) before others may run on this core
HERE, TURN, SIZE = 0, 8, 16  # places in a gate: a line of the processor's cache apart

let_others_run = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())


def new_gate() -> np.ndarray:
    """A place to meet at: int64 [16]."""
    return np.zeros(SIZE, np.int64)


@intrinsic
def look(typing, numbers, index):
    """numbers[index], as other threads see it now, and all that they wrote before it."""

    def generate(context, builder, signature, values):
        address = Writer(context, builder).address(signature.args[0], *values)
        return builder.load_atomic(builder.bitcast(address, INT64.as_pointer()), "acquire", 8)

    return types.int64(numbers, types.intp), generate


@intrinsic
def tell(typing, numbers, index, value):
    """numbers[index] = value, for other threads to see, and all that was written before it."""

    def generate(context, builder, signature, values):
        address = Writer(context, builder).address(signature.args[0], *values[:2])
        builder.store_atomic(values[2], builder.bitcast(address, INT64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.int64), generate


@intrinsic
def count_one(typing, numbers, index):
    """numbers[index] += 1 by one thread at a time; what it was before."""

    def generate(context, builder, signature, values):
        address = Writer(context, builder).address(signature.args[0], *values)
        return builder.atomic_rmw("add", builder.bitcast(address, INT64.as_pointer()), ir.Constant(INT64, 1), "acq_rel")

    return types.int64(numbers, types.intp), generate


@exactly
def meet(gate, parts):
    """Go on when all `parts` threads are here; each sees what all of them wrote before."""
    if parts == 1:
        return
    turn, looks = look(gate, TURN), 0
    if count_one(gate, HERE) == parts - 1:
        tell(gate, HERE, 0)
        tell(gate, TURN, turn + 1)
        return
    while look(gate, TURN) == turn:
        looks += 1
        if looks > PATIENCE:
            let_others_run()
