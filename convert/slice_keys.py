"""The keys under which a tensor bundle's index keeps slices: a name and extents in TensorFlow's ordered code.

Source: tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc.
"""

from convert.proto import Damaged

MOST_DIMENSIONS = 8


def slice_key(key: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """The name and the (start, length) by dimension that a slice's key encodes; length -1 is the whole dimension."""
    if key[:1] != b"\0":
        raise Damaged("a slice's name does not begin as it must")
    name, place = ordered_string(key, 1)
    rank, place = ordered_number(key, place)
    if rank > MOST_DIMENSIONS:
        raise Damaged("a slice has more than {limit} dimensions", limit=MOST_DIMENSIONS)
    extents = []
    for _ in range(rank):
        start, place = ordered_signed(key, place)
        length, place = ordered_signed(key, place)
        extents.append((start, length))
    return name, tuple(extents)


def ordered_string(key: bytes, place: int) -> tuple[bytes, int]:
    """A string in ordered code that begins at `place`, and the place after it; raises Damaged."""
    out = bytearray()
    while place + 1 < len(key):
        pair = key[place : place + 2]
        if pair == b"\x00\x01":
            return bytes(out), place + 2
        if pair in (b"\x00\xff", b"\xff\x00"):
            out.append(pair[0])
            place += 2
        elif pair[0] in (0x00, 0xFF):
            break
        else:
            out.append(pair[0])
            place += 1
    raise Damaged("a slice's name is cut short")


def ordered_number(key: bytes, place: int) -> tuple[int, int]:
    """An unsigned number in ordered code, its width and then its bytes, and the place after it; raises Damaged."""
    if place >= len(key) or key[place] > 8 or place + 1 + key[place] > len(key):
        raise Damaged("a slice's name is cut short")
    width = key[place]
    return int.from_bytes(key[place + 1 : place + 1 + width], "big"), place + 1 + width


def ordered_signed(key: bytes, place: int) -> tuple[int, int]:
    """A signed number: the first bits tell its length, negative ones are inverted."""
    if place >= len(key):
        raise Damaged("a slice's name is cut short")
    negative = key[place] < 0x80
    flip = 0xFF if negative else 0
    lead = key[place] ^ flip
    length = 1
    while length < 8 and lead & (0x80 >> length):
        length += 1
    raw = bytes(byte ^ flip for byte in key[place : place + length])
    if len(raw) < length or length > 7:
        raise Damaged("a slice's name holds an absurd number")
    value = int.from_bytes(raw, "big") & ((1 << (7 * length - 1)) - 1)
    return (~value if negative else value), place + length
