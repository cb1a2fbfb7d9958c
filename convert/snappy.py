"""Raw snappy, for the index blocks of very old writers.

Source: google/snappy, format_description.txt.
"""

from convert.proto import Damaged, varint

MOST = 24  # a copy of 64 bytes takes 3, so no honest block grows more than this


def decompress(data: bytes) -> bytes:
    """Return the original bytes; raises Damaged before it allocates more than the input can stand for."""
    size, place = varint(data, 0)
    if size > MOST * len(data):
        raise Damaged("a compressed block of {length} bytes claims to hold {size}", length=len(data), size=size)
    out = bytearray()
    while place < len(data):
        tag = data[place]
        place += 1
        if tag & 3 == 0:
            length, place = literal_length(data, tag, place)
            piece = data[place : place + length]
            place += length
            if len(piece) < length:
                raise Damaged("a compressed block is cut short")
            out += piece
        else:
            length, offset, place = copy(data, tag, place)
            if not 0 < offset <= len(out):
                raise Damaged("a compressed block copies from before its beginning")
            repeated = bytes(out[-offset:][:length])
            out += (repeated * (length // len(repeated) + 1))[:length]
        if len(out) > size:
            raise Damaged("a compressed block holds more than it claims")
    if len(out) != size:
        raise Damaged("a compressed block holds less than it claims")
    return bytes(out)


def literal_length(data: bytes, tag: int, place: int) -> tuple[int, int]:
    """The length of a literal whose `tag` was read, and the place where its bytes begin."""
    length = tag >> 2
    if length < 60:
        return length + 1, place
    more = length - 59
    return int.from_bytes(data[place : place + more], "little") + 1, place + more


def copy(data: bytes, tag: int, place: int) -> tuple[int, int, int]:
    """Length, offset back, and the place after a copy element."""
    if tag & 3 == 1:
        if place >= len(data):
            raise Damaged("a compressed block is cut short")
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[place], place + 1
    width = 2 if tag & 3 == 2 else 4
    return (tag >> 2) + 1, int.from_bytes(data[place : place + width], "little"), place + width
