"""TensorFlow's tensor bundle: an index of named tensors, and the data files that hold them.

Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/util/tensor_bundle; the facts were checked
against files that TensorFlow 2.21 wrote. Nothing here trusts a number before it is checked against a file's size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.proto import Damaged, fields, integer, message
from convert.slice_keys import MOST_DIMENSIONS, slice_key
from convert.table import entries, masked_crc
from generate import Refusal, refuse_mistaken

FLOATS = {1: "float32", 2: "float64", 14: "bfloat16", 19: "float16"}
OTHERS = {3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64", 10: "bool"}
WIDTH = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
LARGEST_INDEX = 64 * 2**20
MOST_SLICES = 1000

Extents = tuple[tuple[int, int], ...]  # (start, length) for each dimension


@dataclass(frozen=True)
class Piece:
    """Some bytes of a data file, and where they belong in the tensor: (start, length) for each dimension."""

    shard: int
    offset: int
    size: int
    crc: int
    extents: Extents


@dataclass(frozen=True)
class Variable:
    """One named tensor as the index describes it; `dtype` is TensorFlow's name for it, or `type N`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes of all its pieces."""
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True)
class Bundle:
    """An opened checkpoint: its variables by name; the data files are opened when a variable is read."""

    prefix: Path
    shards: int
    variables: dict[str, Variable]

    def data_file(self, shard: int) -> Path:
        """Where data file number `shard` lies, from 0."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def read(self, name: str) -> Iterator[tuple[tuple[tuple[int, int], ...], np.ndarray]]:
        """Yield the pieces of a float variable that `check` has passed: extents, and a read-only map, uint8."""
        for piece in self.variables[name].pieces:
            data = self._map(name, piece)
            if masked_crc(data) != piece.crc:
                raise Refusal(
                    "{name} is damaged: its checksum in {file} is wrong.",
                    name=name,
                    file=self.data_file(piece.shard).name,
                )
            yield piece.extents, data

    def check(self, name: str) -> None:
        """Refuse a variable whose numbers contradict each other or the files, before anything is read by them."""
        check_shape(self.variables[name])
        for piece in self.variables[name].pieces:
            self._find(name, piece)

    def _find(self, name: str, piece: Piece) -> Path:
        """The file that holds all of a piece."""
        file = self.data_file(piece.shard)
        if not 0 <= piece.shard < self.shards or not file.is_file():
            raise Refusal(
                "{name} lies in {file}, which is missing; bring all files of the checkpoint together.",
                name=name,
                file=file.name,
            )
        whole = file.stat().st_size
        if piece.offset < 0 or piece.size < 0 or piece.offset + piece.size > whole:
            refuse_mistaken(file)
            raise Refusal(
                "{file} is cut short: {name} ends at byte {end:,} of {size:,}; copy it again.",
                file=file.name,
                name=name,
                end=piece.offset + piece.size,
                size=whole,
            )
        return file

    def _map(self, name: str, piece: Piece) -> np.ndarray:
        file = self._find(name, piece)
        if piece.size == 0:
            return np.zeros(0, np.uint8)
        try:
            return np.memmap(file, np.uint8, "r", piece.offset, piece.size)
        except OSError as error:
            raise Refusal("{path} cannot be read: {reason}.", path=file, reason=error.strerror) from None


def open_bundle(prefix: Path) -> Bundle:
    """Read the index of the checkpoint `prefix`; raises Refusal with one sentence when it is none or damaged."""
    index = prefix.with_name(prefix.name + ".index")
    size = index.stat().st_size
    if size > LARGEST_INDEX:
        raise Refusal(
            "{file} has {size:,} bytes; an index of a GPT-2 has some thousands, so this is none.",
            file=index.name,
            size=size,
        )
    refuse_mistaken(index)
    data = index.read_bytes()
    try:
        return parse(prefix, data)
    except Damaged as damage:
        raise Refusal("{file} is damaged: {reason}; copy it again.", file=index.name, reason=damage) from None


def parse(prefix: Path, data: bytes) -> Bundle:
    """Make sense of an index file's bytes; raises Damaged."""
    shards, variables, slices = 0, {}, {}
    for key, value in entries(data):
        if key == b"":
            shards = read_header(value)
        elif key.startswith(b"\0"):
            name, extents = slice_key(key)
            slices.setdefault(name, []).append((extents, value))
        else:
            name = key.decode("utf-8", "backslashreplace")
            variables[name] = (key, value)
    if not shards:
        raise Damaged("it has no header")
    found = {name: read_variable(name, value, slices.get(key, [])) for name, (key, value) in variables.items()}
    return Bundle(prefix, shards, found)


def read_header(value: bytes) -> int:
    """Number of data files; raises Damaged for what this machine cannot read."""
    header = dict(fields(value))
    if integer(header.get(2, 0)) != 0:
        raise Damaged("it was written on a big-endian machine")
    shards = integer(header.get(1, 0))
    if not 1 <= shards <= 99_999:
        raise Damaged("it claims {shards} data files", shards=shards)
    return shards


def read_variable(name: str, value: bytes, slices: list[tuple[Extents, bytes]]) -> Variable:
    """A variable from its own entry and those of its slices; raises Damaged where they contradict each other."""
    dtype, shape, piece, listed = read_entry(value)
    whole = tuple((0, length) for length in shape)
    if not listed:
        return Variable(name, dtype, shape, (Piece(*piece, whole),))
    pieces = []
    for extents, entry in slices:
        part_dtype, part_shape, part, _ = read_entry(entry)
        placed = place(extents, shape)
        if len(extents) != len(shape) or part_dtype != dtype or part_shape != tuple(n for _, n in placed):
            raise Damaged("a slice of {name} does not fit it", name=name)
        pieces.append(Piece(*part, placed))
    if sorted(place(extents, shape) for extents in listed) != sorted(piece.extents for piece in pieces):
        raise Damaged(
            "it lists {listed} slices of {name} and holds {held}, which are not the same",
            listed=len(listed),
            name=name,
            held=len(pieces),
        )
    return Variable(name, dtype, shape, tuple(pieces))


def place(extents: Extents, shape: tuple[int, ...]) -> Extents:
    """Where a slice lies in a tensor; a length of -1 is the whole dimension."""
    return tuple((s, n if n >= 0 else full) for (s, n), full in zip(extents, shape, strict=False))


def read_entry(value: bytes) -> tuple[str, tuple[int, ...], tuple[int, int, int, int], list[Extents]]:
    """dtype, shape, (shard, offset, size, crc), and the slices that one BundleEntryProto lists."""
    kind, shape, shard, offset, size, crc, listed = 0, (), 0, 0, 0, 0, []
    for number, content in fields(value):
        if number == 1:
            kind = integer(content)
        elif number == 2:
            shape = read_shape(message(content))
        elif number == 3:
            shard = integer(content)
        elif number == 4:
            offset = integer(content)
        elif number == 5:
            size = integer(content)
        elif number == 6:
            crc = integer(content)
        elif number == 7:
            listed.append(read_slice(message(content)))
    dtype = FLOATS.get(kind) or OTHERS.get(kind) or f"type {kind}"
    return dtype, shape, (shard, offset, size, crc), listed


def read_slice(value: bytes) -> Extents:
    """(start, length) for each dimension of a TensorSliceProto; where it has no length, that is the whole dimension."""
    extents = [dict(fields(message(content))) for number, content in fields(value) if number == 1]
    if len(extents) > MOST_DIMENSIONS:
        raise Damaged("a slice has more than {limit} dimensions", limit=MOST_DIMENSIONS)
    return tuple((integer(extent.get(1, 0)), integer(extent.get(2, -1))) for extent in extents)


def read_shape(value: bytes) -> tuple[int, ...]:
    """The lengths in a TensorShapeProto; raises Damaged where they are unknown or too many."""
    shape = []
    for number, content in fields(value):
        if number == 2:
            shape.append(integer(dict(fields(message(content))).get(1, 0)))
            if len(shape) > MOST_DIMENSIONS:
                raise Damaged("a tensor has more than {limit} dimensions", limit=MOST_DIMENSIONS)
        elif number == 3 and integer(content):
            raise Damaged("a tensor's shape is unknown")
    return tuple(shape)


def check_shape(variable: Variable) -> None:
    """Refuse a variable whose numbers contradict each other, before anything is read by them."""
    name, width = variable.name, WIDTH.get(variable.dtype)
    if width is None:
        raise Refusal(
            "{name} is stored as {dtype}; weights must be float32, float16, bfloat16 or float64.",
            name=name,
            dtype=variable.dtype,
        )
    if any(length < 0 for length in variable.shape):
        raise Refusal(
            "{name} has the impossible shape {shape}; the index is damaged.", name=name, shape=list(variable.shape)
        )
    for piece in variable.pieces:
        inside = all(
            start >= 0 and length >= 0 and start + length <= full
            for (start, length), full in zip(piece.extents, variable.shape, strict=True)
        )
        if not inside or math.prod(length for _, length in piece.extents) * width != piece.size:
            raise Refusal(
                "{name}: {size:,} bytes do not make a tensor of shape {shape}.",
                name=name,
                size=piece.size,
                shape=list(variable.shape),
            )
    if len(variable.pieces) > MOST_SLICES:
        raise Refusal(
            "{name} is cut into {slices:,} slices; at most {limit:,} can be read.",
            name=name,
            slices=len(variable.pieces),
            limit=MOST_SLICES,
        )
    if sum(piece.size for piece in variable.pieces) != math.prod(variable.shape) * width or overlap(variable):
        raise Refusal(
            "{name}: its slices do not make up the whole; bring all files of the checkpoint together.", name=name
        )


def overlap(variable: Variable) -> bool:
    """Whether two slices share an element. With the sizes adding up, no overlap means that nothing is missing."""
    pieces = [piece.extents for piece in variable.pieces]
    return any(
        all(s < t + m and t < s + n for (s, n), (t, m) in zip(one, other, strict=True))
        for place, one in enumerate(pieces)
        for other in pieces[:place]
    )
