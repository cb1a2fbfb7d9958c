"""The protobuf wire format, as far as a checkpoint's index needs it. Every length is checked before it is used.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

from generate import Refusal

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Damaged(Refusal):
    """The file's bytes contradict its format."""


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Read an unsigned varint of at most 64 bits; return it and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise Damaged("a number is cut short")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, place
    raise Damaged("a number has more than 64 bits")


def signed(value: int) -> int:
    """An int64 as protobuf writes it: two's complement in an unsigned varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message: an int for numbers, bytes for everything with a length."""
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = varint(data, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = varint(data, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise Damaged("a field has the unknown wire type {kind}", kind=kind)
        if size > len(data) - place:
            raise Damaged("a field is longer than its message")
        piece = data[place : place + size]
        place += size
        yield number, piece if kind == BYTES else int.from_bytes(piece, "little")


def integer(value: int | bytes) -> int:
    """A field that must be a number, as int64."""
    if isinstance(value, bytes):
        raise Damaged("a field has the wrong type")
    return signed(value)


def message(value: int | bytes) -> bytes:
    """A field that must be a message or a string."""
    if not isinstance(value, bytes):
        raise Damaged("a field has the wrong type")
    return value
