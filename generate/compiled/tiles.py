"""The innermost loops, as LLVM's instructions: what numba's own loops do not become.

All of them work on vectors of 16 numbers (see writer.py). The sums' order is fixed here, so that a row's numbers are the
same bits alone and among others.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from generate.compiled.writer import BYTES, FLOAT, FLOATS, IN_PAIRS, INT64, LANES, MOST_SUMS, PER_STEP, WORDS, Writer

INPUT = np.dtype(np.uint16 if IN_PAIRS else np.uint8)  # of what is multiplied with weights
COLUMNS = 2  # vectors of outputs in a panel of packed weights
PANEL = LANES * COLUMNS


def blocks_of(rows):
    """Which rows and columns of a tile are multiplied at once: (rows, columns) for each time, so many that sums fit."""
    columns_at_once = COLUMNS if rows * COLUMNS <= MOST_SUMS or rows < MOST_SUMS else 1
    rows_at_once = min(rows, MOST_SUMS // columns_at_once)
    return [
        (range(first, first + rows_at_once), range(column, column + columns_at_once))
        for column in range(0, COLUMNS, columns_at_once)
        for first in range(0, rows, rows_at_once)
    ]


def product_tile(rows):
    """The intrinsic that multiplies `rows` rows of bytes with one panel of weights."""

    # fmt: off
    @intrinsic
    def tile(typing, x, first, stride, weight, panel, steps, ahead, pace, start, scale, bias, column, size, row, out, to, out_stride):
        """out = (x W - start) * scale * size + bias. Where it reads `ahead`, memory is fetched for later."""
        where = types.intp
        signature = types.void(
            x, where, where, weight, where, where, where, where, start, scale, bias, where, size, where, out, where, where
        )

        def generate(context, builder, signature, values):
            w = Writer(context, builder)
            x, first, stride, weight, panel, steps, ahead, pace, start, scale, bias, column, size, row, out, to, out_stride = values
            # fmt: on
            kinds = signature.args
            x, ahead, weight = (
                w.address(kinds[0], x, first),
                w.address(kinds[3], weight, ahead),
                w.address(kinds[3], weight, panel),
            )
            start, scale, bias = (w.address(kinds[8 + i], v, column) for i, v in enumerate((start, scale, bias)))
            size, out = w.address(kinds[12], size, row), w.address(kinds[14], out, to)
            blocks = blocks_of(rows)
            for row_numbers, columns in blocks:
                sums = {(r, c): w.variable(WORDS, w.load(WORDS, w.at(start, 64 * c))) for r in row_numbers for c in columns}
                x_rows = {r: w.at(x, stride, r * INPUT.itemsize) for r in row_numbers}
                with cgutils.for_range(builder, steps) as loop:
                    here = w.at(weight, loop.index, 64 * COLUMNS)
                    if (row_numbers, columns) == blocks[0]:
                        later = w.at(ahead, builder.mul(loop.index, pace))
                        for c in range(COLUMNS):
                            w.prefetch(w.at(later, 64 * c))
                    vectors = {c: w.load(BYTES, w.at(here, 64 * c)) for c in columns}
                    for r in row_numbers:
                        inputs = w.at(x_rows[r], loop.index, PER_STEP * INPUT.itemsize)
                        for c in columns:
                            builder.store(w.dot_inputs(builder.load(sums[r, c]), inputs, vectors[c]), sums[r, c])
                for r in row_numbers:
                    factor = w.spread(w.load(ir.FloatType(), w.at(size, 4 * r)))
                    for c in columns:
                        y = builder.sitofp(builder.load(sums[r, c]), FLOATS)
                        y = builder.fmul(builder.fmul(y, w.load(FLOATS, w.at(scale, 64 * c))), factor)
                        y = builder.fadd(y, w.load(FLOATS, w.at(bias, 64 * c)))
                        w.store(y, w.at(w.at(out, out_stride, 4 * r), 64 * c))
            return context.get_dummy_value()

        return signature, generate

    return tile


product_8, product_4, product_2, product_1 = (product_tile(rows) for rows in (8, 4, 2, 1))


def row_sum(square):
    """The intrinsic that sums numbers, or their squares."""

    @intrinsic
    def total(typing, x, first, count):
        """The sum of x[first:first + count], by 16 lanes and then one after the other what is left."""

        def generate(context, builder, signature, values):
            w = Writer(context, builder)
            x, count = w.address(signature.args[0], values[0], values[1]), values[2]
            ((lanes,),) = w.variables(FLOATS, 1, 1)
            vectors = builder.sdiv(count, INT64(LANES))
            with cgutils.for_range(builder, vectors) as loop:
                vector = w.load(FLOATS, w.at(x, loop.index, 4 * LANES))
                vector = builder.fmul(vector, vector) if square else vector
                builder.store(builder.fadd(builder.load(lanes), vector), lanes)
            rest = cgutils.alloca_once_value(builder, w.sum_of_lanes(builder.load(lanes)))
            done = builder.mul(vectors, INT64(LANES))
            with cgutils.for_range(builder, builder.sub(count, done)) as loop:
                number = w.load(ir.FloatType(), w.at(x, builder.add(done, loop.index), 4))
                number = builder.fmul(number, number) if square else number
                builder.store(builder.fadd(builder.load(rest), number), rest)
            return builder.load(rest)

        return types.float32(x, types.intp, types.intp), generate

    return total


sum_of, sum_of_squares = row_sum(False), row_sum(True)


@intrinsic
def put_maxima(typing, x, first, groups, maxima):
    """maxima[g] = the largest of the 64 numbers of x[first + 64 g:]; where one is NaN, any of them."""

    def generate(context, builder, signature, values):
        w = Writer(context, builder)
        x, out = w.address(signature.args[0], values[0], values[1]), w.address(signature.args[3], values[3])

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        with cgutils.for_range(builder, values[2]) as loop:
            group = w.at(x, loop.index, 256)
            a, b, c, d = (w.load(FLOATS, w.at(group, 64 * n)) for n in range(4))
            largest = w.folded(larger, larger(larger(a, b), larger(c, d)))
            w.store(largest, w.at(out, loop.index, 4))
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, maxima), generate


@intrinsic
def add_shares(typing, x, first, vectors, peak, lanes):
    """Of the numbers x of x[first:first + 16 * vectors]: add to the 16 lanes of `lanes` [2, 16] the sums of
    e^(x - peak), and of (x - peak) e^(x - peak); what is more than 80 below the peak counts as 80 below."""

    def generate(context, builder, signature, values):
        w = Writer(context, builder)
        x, peak = w.address(signature.args[0], values[0], values[1]), w.spread(values[3])
        out, least = w.address(signature.args[4], values[4]), w.spread(FLOAT(-80))
        shares, weighted = (row[0] for row in w.variables(FLOATS, 2, 1))
        with cgutils.for_range(builder, values[2]) as loop:
            below = builder.fsub(w.load(FLOATS, w.at(x, loop.index, 4 * LANES)), peak)
            below = builder.select(builder.fcmp_ordered("<", below, least), least, below)
            share = w.exp(below)
            builder.store(builder.fadd(builder.load(shares), share), shares)
            builder.store(w.multiply_add(share, below, builder.load(weighted)), weighted)
        for row, sums in enumerate((shares, weighted)):
            place = w.at(out, 64 * row)
            w.store(builder.fadd(w.load(FLOATS, place), builder.load(sums)), place)
        return context.get_dummy_value()

    where = types.intp
    return types.void(x, where, where, types.float32, lanes), generate


@intrinsic
def add_moments(typing, x, first, vectors, near, least, lanes):
    """Of the numbers of x[first:first + 16 * vectors] that are not below `least`: add to each of the 16 lanes of
    `lanes` [3, 16] how many they are, the sum of their distances from `near`, and that of the distances' squares."""

    def generate(context, builder, signature, values):
        w = Writer(context, builder)
        x, near, least = w.address(signature.args[0], values[0], values[1]), w.spread(values[3]), w.spread(values[4])
        out, zero, one = w.address(signature.args[5], values[5]), ir.Constant(FLOATS, None), w.spread(FLOAT(1))
        counts, firsts, seconds = (row[0] for row in w.variables(FLOATS, 3, 1))
        with cgutils.for_range(builder, values[2]) as loop:
            vector = w.load(FLOATS, w.at(x, loop.index, 4 * LANES))
            there = builder.fcmp_ordered(">=", vector, least)
            distance = builder.select(there, builder.fsub(vector, near), zero)
            builder.store(builder.fadd(builder.load(counts), builder.select(there, one, zero)), counts)
            builder.store(builder.fadd(builder.load(firsts), distance), firsts)
            builder.store(w.multiply_add(distance, distance, builder.load(seconds)), seconds)
        for row, sums in enumerate((counts, firsts, seconds)):
            place = w.at(out, 64 * row)
            w.store(builder.fadd(w.load(FLOATS, place), builder.load(sums)), place)
        return context.get_dummy_value()

    where = types.intp
    return types.void(x, where, where, types.float32, types.float32, lanes), generate


@intrinsic
def scores_of(typing, queries, query, keys, first, count, width, scores, to):
    """scores[to + i] = a query's product with key i < count; the keys lie [count, width], the width a multiple of 16."""
    where = types.intp
    signature = types.void(queries, where, keys, where, where, where, scores, where)

    def generate(context, builder, signature, values):
        w, kinds = Writer(context, builder), signature.args
        queries, query, keys, first, count, width, scores, to = values
        query, keys, out = (
            w.address(kinds[0], queries, query),
            w.address(kinds[2], keys, first),
            w.address(kinds[6], scores, to),
        )
        item = kinds[2].dtype.bitwidth // 8
        wide = builder.sdiv(width, INT64(4 * LANES))  # four vectors in a row; the rest one by one
        rest = builder.mul(wide, INT64(4 * LANES))
        pieces = (INT64(0), wide, 4), (rest, builder.sdiv(builder.sub(width, rest), INT64(LANES)), 1)
        (totals,) = w.variables(FLOATS, 1, 4)

        def dots(position, together):
            """The products with some keys from `position` on, side by side: one would wait for its own additions."""
            for c in range(together):
                builder.store(ir.Constant(FLOATS, None), totals[c])
            key = w.at(keys, builder.mul(position, width), item)
            for start, times, parts in pieces:
                with cgutils.for_range(builder, times) as loop:
                    for part in range(parts):
                        at = builder.add(start, builder.mul(loop.index, INT64(LANES * parts)))
                        at = builder.add(at, INT64(LANES * part))
                        factor = w.load(FLOATS, w.at(query, at, 4))
                        for c in range(together):
                            vector = w.widen(
                                kinds[2].dtype, w.at(w.at(key, at, item), builder.mul(width, INT64(c)), item)
                            )
                            builder.store(w.multiply_add(factor, vector, builder.load(totals[c])), totals[c])
            found = [builder.load(total) for total in totals[:together]]
            w.store(w.sum_of_lanes(found[0]) if together == 1 else w.sums_of_lanes(*found), w.at(out, position, 4))

        four = INT64(4)
        fours = builder.sdiv(count, four)
        with cgutils.for_range(builder, fours) as loop:
            dots(builder.mul(loop.index, four), 4)
        whole = builder.mul(fours, four)
        with cgutils.for_range(builder, builder.sub(count, whole)) as loop:
            dots(builder.add(whole, loop.index), 1)
        return context.get_dummy_value()

    return signature, generate


def value_adder(columns):
    """The intrinsic that sums 16 * `columns` numbers of the values."""

    @intrinsic
    def add_values(typing, weights, first, count, values, start, width, sums, to):
        """sums[to + j] += the sum over i < count of weights[first + i] * values[start + i * width + j]."""
        where = types.intp
        signature = types.void(weights, where, where, values, where, where, sums, where)

        def generate(context, builder, signature, arguments):
            w, kinds = Writer(context, builder), signature.args
            weights, first, count, values, start, width, sums, to = arguments
            weights, values = w.address(kinds[0], weights, first), w.address(kinds[3], values, start)
            out, item = w.address(kinds[6], sums, to), kinds[3].dtype.bitwidth // 8
            (totals,) = w.variables(FLOATS, 1, columns)
            for c in range(columns):
                builder.store(w.load(FLOATS, w.at(out, 4 * LANES * c)), totals[c])
            with cgutils.for_range(builder, count) as loop:
                factor = w.spread(w.load(ir.FloatType(), w.at(weights, loop.index, 4)))
                value = w.at(values, builder.mul(loop.index, width), item)
                for c in range(columns):
                    vector = w.widen(kinds[3].dtype, w.at(value, c * LANES * item))
                    builder.store(w.multiply_add(factor, vector, builder.load(totals[c])), totals[c])
            for c in range(columns):
                w.store(builder.load(totals[c]), w.at(out, 4 * LANES * c))
            return context.get_dummy_value()

        return signature, generate

    return add_values


add_values_4, add_values_1 = value_adder(4), value_adder(1)


@intrinsic
def put(typing, array, index, value):
    """array[index] = value, where uint16 stands for float16."""
    signature = types.void(array, types.intp, types.float32)

    def generate(context, builder, signature, values):
        w = Writer(context, builder)
        array, index, value = values
        if signature.args[0].dtype != types.float32:
            value = builder.fptrunc(value, ir.HalfType())
        w.store(value, w.address(signature.args[0], array, index))
        return context.get_dummy_value()

    return signature, generate


def bitcast(name, source, target):
    """An intrinsic that reads the bits of a `source` as a `target`; `name` becomes its docstring."""

    @intrinsic
    def cast(typing, value):
        def generate(context, builder, signature, values):
            return builder.bitcast(values[0], context.get_value_type(target))

        return target(source), generate

    cast.__doc__ = name
    return cast


bits_of = bitcast("A float32's bits.", types.float32, types.int32)
float_of = bitcast("The float32 of these bits.", types.int32, types.float32)
