"""A writer of LLVM's instructions for vectors of 16 numbers, which LLVM splits where a processor has shorter ones."""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16
PER_STEP = 4  # inputs that one instruction takes at once
VNNI, AVX2 = (llvm.get_host_cpu_features().get(name, False) for name in ("avx512vnni", "avx2"))
# AVX2 alone multiplies pairs of 16 bits: the inputs are given as such, and the bytes of four weights so that, when those in even
# and those in odd places are widened, neighbours are neighbours
IN_PAIRS = AVX2 and not VNNI
PLACES = (0, 2, 1, 3) if IN_PAIRS else (0, 1, 2, 3)  # of the weights of four inputs, in bytes
# vectors of 16 sums that stay in registers beside what is multiplied: of 32 that hold 16 numbers each, or 16 that hold 8
MOST_SUMS = 16 if VNNI else 4

INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
# e^x: a float32 that was added to ROUND holds its integer, rounded to even, in its lowest bits. Source: Cephes, expf
ROUND, LOG2_E, LN_2_HIGH, LN_2_LOW = 1.5 * 2**23, 1.44269504, 0.693359375, -2.12194440e-4
POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
BYTES, WORDS = ir.VectorType(INT8, 4 * LANES), ir.VectorType(INT32, LANES)
SHORTS = ir.VectorType(INT16, 2 * LANES)
FLOAT = ir.FloatType()
FLOATS = ir.VectorType(FLOAT, LANES)
POINTER = INT8.as_pointer()


class Writer:
    """A builder of instructions that knows vectors and byte addresses."""

    def __init__(self, context, builder):
        self.context, self.builder = context, builder

    def address(self, array_type, array, index=None):
        """The address of array's element `index`, counted in elements of its type."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        if index is not None:
            data = self.builder.gep(data, [index])
        return self.builder.bitcast(data, POINTER)

    def at(self, address, offset, scale=1):
        """address + offset * scale, in bytes."""
        if isinstance(offset, int):
            offset, scale = INT64(offset * scale), 1
        return self.builder.gep(address, [self.builder.mul(offset, INT64(scale)) if scale != 1 else offset])

    def load(self, type_, address):
        """A value or vector at any byte address."""
        return self.builder.load(self.builder.bitcast(address, type_.as_pointer()), align=1)

    def store(self, value, address):
        """Write a value or vector to any byte address."""
        self.builder.store(value, self.builder.bitcast(address, value.type.as_pointer()), align=1)

    def spread(self, scalar):
        """A vector of 16 times the same."""
        empty = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
        first = self.builder.insert_element(empty, scalar, INT32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(WORDS, [0] * LANES))

    def variable(self, type_, value=None):
        """A vector, zero at first or `value`, that is kept from one turn of a loop to the next; LLVM holds it in registers."""
        found = cgutils.alloca_once(self.builder, type_)
        self.builder.store(ir.Constant(type_, None) if value is None else value, found)
        return found

    def variables(self, type_, rows, columns):
        """`rows` times `columns` of them."""
        return [[self.variable(type_) for _ in range(columns)] for _ in range(rows)]

    def call(self, name, result, *arguments):
        """Call one of LLVM's own functions."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def prefetch(self, address):
        """Ask for the memory at an address, to be read and kept near."""
        self.call("llvm.prefetch.p0", ir.VoidType(), address, INT32(0), INT32(3), INT32(1))

    def multiply_add(self, a, b, sums):
        """a * b + sums, rounded once."""
        return self.call("llvm.fma.v16f32", FLOATS, a, b, sums)

    def exp(self, x):
        """e^x of 16 numbers from -87 to 88, as `arithmetic.exp` has it but for the last bit."""
        b, number = self.builder, lambda value: ir.Constant(FLOATS, [value] * LANES)
        shifted = b.fadd(b.fmul(x, number(LOG2_E)), number(ROUND))
        power = b.fsub(shifted, number(ROUND))
        x = self.multiply_add(power, number(-LN_2_LOW), self.multiply_add(power, number(-LN_2_HIGH), x))
        y = number(POLYNOMIAL[0])
        for factor in POLYNOMIAL[1:]:
            y = self.multiply_add(y, x, number(factor))
        y = b.fadd(self.multiply_add(b.fmul(y, x), x, x), number(1.0))
        exponent = b.shl(b.bitcast(shifted, WORDS), ir.Constant(WORDS, [23] * LANES))
        return b.bitcast(b.add(b.bitcast(y, WORDS), exponent), FLOATS)

    def widen(self, element, address):
        """16 numbers of an array of `element` as float32; uint16 ones are the bits of float16."""
        if element == types.float32:
            return self.load(FLOATS, address)
        halves = self.load(ir.VectorType(INT16, LANES), address)
        return self.builder.fpext(self.builder.bitcast(halves, ir.VectorType(ir.HalfType(), LANES)), FLOATS)

    def folded(self, combine, vector):
        """What `combine` makes of 16 numbers, halves with halves, so that the order is fixed."""
        b, lanes = self.builder, LANES
        while lanes > 1:
            lanes //= 2
            low, high = (ir.Constant(ir.VectorType(INT32, lanes), list(range(at, at + lanes))) for at in (0, lanes))
            empty = ir.Constant(vector.type, ir.Undefined)
            vector = combine(b.shuffle_vector(vector, empty, low), b.shuffle_vector(vector, empty, high))
        return b.extract_element(vector, INT32(0))

    def sum_of_lanes(self, vector):
        """The sum of 16 numbers."""
        return self.folded(self.builder.fadd, vector)

    def sums_of_lanes(self, a, b, c, d):
        """`sum_of_lanes` of four vectors with less work and the same bits."""

        def fold(x, y, size):
            low = [at + i for at in range(0, 2 * LANES, 2 * size) for i in range(size)]
            halves = (w.shuffle_vector(x, y, ir.Constant(WORDS, [i + at for i in low])) for at in (0, size))
            return w.fadd(*halves)

        w = self.builder
        total = fold(fold(a, b, 8), fold(c, d, 8), 4)  # four lanes of a, four of b ...
        total = fold(total, total, 2)
        total = fold(total, total, 1)  # a, b, c, d, and the same again
        return w.shuffle_vector(total, total, ir.Constant(ir.VectorType(INT32, 4), list(range(4))))

    def dot_inputs(self, sums, inputs, weights):
        """sums[i] + the sum over j < 4 of input j times the weight j of output i, exact in 32 bits; `inputs` is the address of
        four, and `weights` 16 times four bytes."""
        if IN_PAIRS:
            return self.dot_pairs(sums, inputs, weights)
        four = self.builder.bitcast(self.spread(self.load(INT32, inputs)), BYTES)
        if VNNI:
            return self.call("llvm.x86.avx512.vpdpbusd.512", WORDS, sums, four, weights)
        b, u, s = self.builder, self.builder.bitcast(four, WORDS), self.builder.bitcast(weights, WORDS)
        for j in range(PER_STEP):
            up, right = (ir.Constant(WORDS, [n] * LANES) for n in (24 - 8 * j, 24))
            sums = b.add(sums, b.mul(b.lshr(b.shl(u, up), right), b.ashr(b.shl(s, up), right)))
        return sums

    def dot_pairs(self, sums, inputs, weights):
        """The same of inputs of 16 bits: the sum of two products of bytes may be more than 16 bits hold, of which AVX2's own
        product of bytes would keep the largest."""
        b, s, eight = self.builder, self.builder.bitcast(weights, SHORTS), ir.Constant(SHORTS, [8] * 2 * LANES)
        for number, part in enumerate((b.ashr(b.shl(s, eight), eight), b.ashr(s, eight))):
            pair = b.bitcast(self.spread(self.load(INT32, self.at(inputs, 4 * number))), SHORTS)
            sums = b.add(sums, self.add_neighbours(pair, part))
        return sums

    def add_neighbours(self, a, b):
        """a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1] of 32 numbers of 16 bits, as 16 of 32."""
        half = ir.VectorType(INT32, LANES // 2)
        nothing, halves = ir.Constant(SHORTS, ir.Undefined), []
        for start in (0, LANES):
            these = ir.Constant(ir.VectorType(INT32, LANES), list(range(start, start + LANES)))
            some = (self.builder.shuffle_vector(vector, nothing, these) for vector in (a, b))
            halves.append(self.call("llvm.x86.avx2.pmadd.wd", half, *some))
        return self.builder.shuffle_vector(*halves, ir.Constant(WORDS, list(range(LANES))))
