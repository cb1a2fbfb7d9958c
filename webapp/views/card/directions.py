"""Which way characters run and whether letters join: the Unicode Bidirectional Algorithm by FriBidi, with which Pillow shapes.

Pillow orders one text in one typeface; a line of a card has several, and two inks. So levels are asked of FriBidi for a
whole paragraph (UAX #9, P2 to I2), lines are broken in the order of reading, and `in_display` puts a line's pieces in the
order of display (L2). Without FriBidi Pillow cannot shape: all runs from left to right then.
"""

import ctypes
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from PIL import features

CODES = f"utf-32-{sys.byteorder[0]}e"  # FriBidiChar: 32 bits as this machine has them
NAMES = ("libfribidi.so.0", "libfribidi.so", "libfribidi.dylib", "fribidi.dll")  # where Pillow looks for it as well
PARAGRAPH = (0x110, 0x111)  # FRIBIDI_PAR_LTR, FRIBIDI_PAR_RTL
MARKS = "\u061c\u200e\u200f"  # letters of no width that tell their neighbours which way to run
JOINS_BACK, JOINS_ON, TRANSPARENT = 1, 2, 8  # FRIBIDI_MASK_JOINS_RIGHT, _JOINS_LEFT, _TRANSPARENT


@lru_cache(1)
def fribidi() -> ctypes.CDLL | None:
    """The library, if this machine has it and Pillow shapes with it."""
    for name in NAMES if features.check("raqm") else ():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.fribidi_get_par_embedding_levels_ex.restype = ctypes.c_int8
        return library
    return None


def way(level: int) -> str | None:
    """What Pillow is told of a text of one level."""
    return ("rtl" if level % 2 else "ltr") if fribidi() else None


def base_of(text: str) -> int:
    """The level of a paragraph: 1 where its first letter is one of a script that runs to the left, else 0."""
    strong = (unicodedata.bidirectional(char) for char in text)
    return int(next((kind for kind in strong if kind in ("L", "R", "AL")), "L") != "L")


def levels(paragraph: str, base: int) -> list[int]:
    """The embedding level of each character of a paragraph (no newline in it): odd ones run to the left."""
    library, count = fribidi(), len(paragraph)
    if not (library and count):
        return [0] * count
    text = paragraph.encode(CODES)
    kinds, brackets, found = (ctypes.c_uint32 * count)(), (ctypes.c_uint32 * count)(), (ctypes.c_int8 * count)()
    library.fribidi_get_bidi_types(text, count, kinds)
    library.fribidi_get_bracket_types(text, count, kinds, brackets)
    direction = ctypes.byref(ctypes.c_uint32(PARAGRAPH[base]))
    if not library.fribidi_get_par_embedding_levels_ex(kinds, brackets, count, direction, found):
        raise MemoryError("FriBidi had no memory for a paragraph")
    return list(found)


def join(before: str, after: str) -> bool:
    """Whether the last letter of one text and the first of the next are written in one stroke, as in Arabic."""
    library, text = fribidi(), before + after
    if not library:
        return False
    found = (ctypes.c_uint8 * len(text))()
    library.fribidi_get_joining_types(text.encode(CODES), len(text), found)
    last = next((kind for kind in found[: len(before)][::-1] if not kind & TRANSPARENT), 0)
    first = next((kind for kind in found[len(before) :] if not kind & TRANSPARENT), 0)
    return bool(last & JOINS_ON and first & JOINS_BACK)


def in_display(found: Sequence[int]) -> list[int]:
    """The places of a line's pieces from left to right, by the level of each: UAX #9, L2."""
    order = list(range(len(found)))
    for level in range(max(found, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and found[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end + 1
    return order
