"""A sorted-string table: the file format of a checkpoint's `.index`.

Source: google/leveldb, doc/table_format.md; TensorFlow's is the same with masked crc32c.
"""

from collections.abc import Iterator

import google_crc32c

from convert.proto import Damaged, varint
from convert.snappy import decompress

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
TRAILER = 5
LONGEST_KEY = 4096
GROWTH = 64  # prefix compression may make keys this many times longer than the file, and no more


def masked_crc(data) -> int:
    """crc32c as TensorFlow stores it. Takes bytes or a contiguous NumPy array."""
    return mask(google_crc32c.value(data))


def mask(crc: int) -> int:
    """A crc32c as TensorFlow stores it: rotated right by 15 bits, plus a constant. Source: leveldb, util/crc32c.h."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def entries(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all (key, value) of a table in order. Raises Damaged; allocates no more than the file can stand for."""
    if len(file) < FOOTER or int.from_bytes(file[-8:], "little") != MAGIC:
        raise Damaged("it does not end as an index must")
    footer = file[-FOOTER:-8]
    _, _, place = handle(footer, 0)  # of a meta index, which TensorFlow leaves empty
    offset, size, _ = handle(footer, place)
    last, end, room = None, 0, GROWTH * len(file)
    for separator, where in pairs(block(file, offset, size)):
        offset, size, _ = handle(where, 0)
        if offset < end:
            raise Damaged("its blocks overlap")
        end = offset + size
        for key, value in pairs(block(file, offset, size)):
            if (last is not None and key <= last) or key > separator:
                raise Damaged("its names are out of order")
            room -= len(key) + len(value)
            if room < 0:
                raise Damaged("its names take more room than the file can stand for")
            last = key
            yield key, value


def handle(data: bytes, place: int) -> tuple[int, int, int]:
    """A block's offset and size, and the place after them."""
    offset, place = varint(data, place)
    size, place = varint(data, place)
    return offset, size, place


def block(file: bytes, offset: int, size: int) -> bytes:
    """One block, its checksum verified."""
    if offset + size + TRAILER > len(file) - FOOTER:
        raise Damaged("a block lies outside the file")
    data, kind = file[offset : offset + size], file[offset + size]
    stored = int.from_bytes(file[offset + size + 1 : offset + size + TRAILER], "little")
    if masked_crc(file[offset : offset + size + 1]) != stored:
        raise Damaged("a block's checksum is wrong")
    if kind == 0:
        return data
    if kind == 1:
        return decompress(data)
    raise Damaged("a block has the unknown compression {kind}", kind=kind)


def pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) of one block: each key is written as what it does not share with the one before."""
    if len(data) < 4:
        raise Damaged("a block is too short")
    restarts = int.from_bytes(data[-4:], "little")
    end = len(data) - 4 - 4 * restarts
    if restarts < 1 or end < 0:
        raise Damaged("a block's restarts lie outside it")
    place, key = 0, b""
    while place < end:
        shared, place = varint(data, place)
        fresh, place = varint(data, place)
        length, place = varint(data, place)
        if shared > len(key) or fresh + length > end - place or shared + fresh > LONGEST_KEY:
            raise Damaged("an entry is longer than its block")
        key = key[:shared] + data[place : place + fresh]
        place += fresh
        yield key, data[place : place + length]
        place += length
