"""The typefaces from npm: which of them has what a cluster needs, and how wide a text in it is.

A character that no typeface has becomes a box. Widths are in em (1.0 = the size of the type), so that a text is measured
once and then broken at many sizes.
"""

import json
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

from generate import files
from webapp.views.card.directions import MARKS, fribidi, way

MODULES = files.NODE_MODULES / "@fontsource-variable"
PACKAGES = {  # as preferred; relative size, so that their letters stand well beside Source Serif's
    "source-serif-4": 1.0,
    "noto-serif-hebrew": 0.9,
    "noto-naskh-arabic": 1.08,
    "noto-serif-devanagari": 0.95,
    "noto-serif-thai": 0.92,
    "noto-emoji": 0.8,
    "noto-serif-sc": 0.97,
    "noto-serif-kr": 0.97,
}
SHAPED = {  # what cannot be read unless it is shaped; of these packages nothing else is wanted
    "noto-serif-hebrew": "hebrew",
    "noto-naskh-arabic": "arabic",
    "noto-serif-devanagari": "devanagari",
    "noto-serif-thai": "thai",
}
BOX, BOX_WIDTH = "\ufffd", 0.7  # for what no typeface has: a hollow box, em wide
SMALLEST = 31  # px of type that can still be read in a chat, at half the width; widths are measured at it


class Ink(NamedTuple):
    """How text is drawn: its colour as CSS writes it, and how heavy."""

    colour: str
    weight: int  # of the typeface, so that the two hands are told apart without colour


@lru_cache(1)
def packages() -> list[list[tuple[Path, set[int]]]]:
    """For each package its files, with the characters that are said to be in them."""
    found = []
    for name in PACKAGES:
        entries = json.loads((MODULES / name / "unicode.json").read_text()).items()
        only = SHAPED.get(name)
        if fribidi() or not only:
            found.append([subset(name, *entry) for entry in entries if only in (None, entry[0])])
    return found


def subset(name: str, key: str, spans: str) -> tuple[Path, set[int]]:
    """A line of a package's unicode.json, such as ("[4]", "U+23,U+30-39")."""
    ends = [[int(end, 16) for end in span[2:].split("-")] for span in spans.split(",")]
    file = MODULES / name / "files" / f"{name}-{key.strip('[]')}-wght-normal.woff2"
    return file, {code for first, *last in ends for code in range(first, (last or [first])[0] + 1)}


@lru_cache(8192)
def glyphs(cluster: str, weight: int) -> tuple[str, Path | None]:
    """What is drawn for a cluster, and its typeface: all of it, or its first character, or a box, or nothing."""
    if cluster == "\n":
        return cluster, None
    if cluster[0] in MARKS:
        return "", None
    for text in dict.fromkeys((cluster, cluster[0])):
        for package in packages():
            able = [file for file, holds in package if all(ord(char) in holds or char == "\u200c" for char in text)]
            able = [file for file in able if all(has(file, char, weight) for char in text)]
            if able:  # a joined emoji is narrow in the one file that knows it
                return text, min(able, key=lambda file: measured(text, Ink("", weight), file, 0))
    return ("", None) if unicodedata.category(cluster[0]) in ("Mn", "Me", "Cf") else (BOX, None)


@lru_cache(8192)
def has(file: Path, char: str, weight: int) -> bool:
    """Whether a character looks other than what a typeface draws for those it does not have."""
    return char in " \u200c\u200d\ufe0f" or bytes(face(file, SMALLEST, weight).getmask(char)) != unknown(file, weight)


@lru_cache(1024)
def unknown(file: Path, weight: int) -> bytes:
    """The pixels that a typeface draws for a character that it does not have."""
    return bytes(face(file, SMALLEST, weight).getmask("\U0010ffff"))


@lru_cache(8192)
def measured(text: str, ink: Ink, file: Path | None, level: int, size: int = SMALLEST) -> float:
    """The width of a run in em, as it is drawn at a size in px."""
    if not file:
        return BOX_WIDTH * len(text)
    return face(file, size, ink.weight).getlength(text, direction=way(level)) / size


@lru_cache(1024)
def face(file: Path, size: int, weight: int) -> ImageFont.FreeTypeFont:
    """A typeface, made to fit Source Serif of `size` px."""
    font = ImageFont.truetype(file, size * PACKAGES[file.parent.parent.name])
    font.set_variation_by_axes([weight])
    return font
