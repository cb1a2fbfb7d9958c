"""From characters to words in typefaces: what a text looks like, how wide it is, and where a line of it may end.

Any text will do: what cannot be seen is left out, and a character that no typeface has becomes a box. Widths are in em
(1.0 = the size of the type), so that a text is measured once and then broken at many sizes.
"""

import json
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

from webapp.files import NODE_MODULES

MODULES = NODE_MODULES / "@fontsource-variable"
PACKAGES = (("source-serif-4", 1.0), ("noto-emoji", 0.8), ("noto-serif-sc", 0.97))  # as preferred; relative size
BOX, BOX_WIDTH = "\ufffd", 0.7  # for what no typeface has: a hollow box, em wide
SMALLEST = 31  # px of type that can still be read in a chat, at half the width; widths are measured at it

LONGEST = 28  # characters of a word; a longer one is cut where the line ends
CLOSING = frozenset("。，、！？；：」』）】》〉”’…—～·)]},.!?;:%")  # begin no line
OPENING = frozenset("「『（【《〈“‘([{")  # end no line
UNSEEN = "\0-\b\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
TIDY = (  # from pattern to replacement, in order
    ("\r\n?|[\v\f\x85\u2028\u2029]", "\n"),
    (f"[{UNSEEN}]", ""),
    ("[\ud800-\udfff]", BOX),
    ("[\t\u3000]", "    "),
    ("[\u2007\u202f]", "\xa0"),
    (r"[^\S\n\xa0]", " "),
    (" {9,}", " " * 8),
    (" *\n *\n\\s*\n", "\n\n"),
)


class Ink(NamedTuple):
    colour: str
    weight: int  # of the typeface, so that the two hands are told apart without colour


class Stretch(NamedTuple):
    text: str
    ink: Ink
    file: Path | None  # the typeface; None: boxes


class Word(NamedTuple):
    """What no line's end may part: a word, a Chinese character with its comma, some spaces, or one newline."""

    runs: list[Stretch]
    width: float  # em

    @property
    def blank(self) -> bool:
        return self.runs[0].text.isspace()


def tidy(text: str) -> str:
    """Text of characters that can be seen, with newlines and spaces between them."""
    for pattern, replacement in TIDY:
        text = re.sub(pattern, replacement, text)
    return unicodedata.normalize("NFC", text)


def clusters(text: str) -> list[str]:
    """Characters with the marks on them; emoji joined by ZWJ, with skin tones, flags. A dozen codes at the most."""
    found: list[str] = []
    for char in text:
        if char >= "\u0300" and found and found[-1] != "\n" and belongs(char, found[-1]):
            found[-1] = (found[-1] + char)[:12]
        else:
            found.append(char)
    return found


def belongs(char: str, before: str) -> bool:
    """Whether a character is drawn on, or as one with, the cluster before it."""
    if "\U0001f1e6" <= char <= "\U0001f1ff":  # two of these are a flag
        return len(before) == 1 and "\U0001f1e6" <= before <= "\U0001f1ff"
    tone_or_tag = "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f"
    joined = char == "\u200d" or (before[-1] == "\u200d" and char > "\u2000")
    return tone_or_tag or joined or unicodedata.category(char)[0] == "M"


def words(parts: list[tuple[str, Ink]]) -> list[Word]:
    """Text in its inks, cut where a line may end and measured. A word that changes its ink midway stays one."""
    found: list[list[Stretch]] = []
    before, length = "\n", 0
    for text, ink in parts:
        for cluster in clusters(text):
            shown, file = glyphs(cluster, ink.weight)
            if not shown:
                continue
            length += 1
            ends = may_part(before, cluster[0], length)
            if ends or length > LONGEST:
                found.append([])
            length = 1 if ends else length
            word, before = found[-1], cluster[0]
            if word and word[-1][1:] == (ink, file):
                word[-1] = Stretch(word[-1].text + shown, ink, file)
            else:
                word.append(Stretch(shown, ink, file))
    return [Word(runs, sum(measured(*run) for run in runs)) for runs in found]


def may_part(before: str, char: str, length: int) -> bool:
    """Whether a word ends between two characters; `char` would be its `length`th."""
    if "\n" in (before, char) or (before == " ") != (char == " "):
        return True
    if char == " " or before in OPENING or char in CLOSING:
        return False
    wide = char > "\U0001f000" or any(unicodedata.east_asian_width(each) in "WF" for each in (before, char))
    return wide or (before in "-–—/" and char.isalpha() and length > 2)


# Typefaces


@lru_cache(1)
def packages() -> list[list[tuple[Path, set[int]]]]:
    """For each package its files, with the characters that are said to be in them."""
    return [
        [subset(name, *entry) for entry in json.loads((MODULES / name / "unicode.json").read_text()).items()]
        for name, _ in PACKAGES
    ]


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
    for text in dict.fromkeys((cluster, cluster[0])):
        for package in packages():
            files = [file for file, holds in package if all(ord(char) in holds for char in text)]
            files = [file for file in files if all(has(file, char, weight) for char in text)]
            if files:  # a joined emoji is narrow in the one file that knows it
                return text, min(files, key=lambda file: measured(text, Ink("", weight), file))
    return ("", None) if unicodedata.category(cluster[0]) in ("Mn", "Me", "Cf") else (BOX, None)


@lru_cache(8192)
def has(file: Path, char: str, weight: int) -> bool:
    """Whether a character looks other than what a typeface draws for those it does not have."""
    return char in " \u200d\ufe0f" or bytes(face(file, SMALLEST, weight).getmask(char)) != unknown(file, weight)


@lru_cache(1024)
def unknown(file: Path, weight: int) -> bytes:
    return bytes(face(file, SMALLEST, weight).getmask("\U0010ffff"))


@lru_cache(8192)
def measured(text: str, ink: Ink, file: Path | None) -> float:
    """The width of a run in em."""
    if not file:
        return BOX_WIDTH * len(text)
    return face(file, SMALLEST, ink.weight).getlength(text, direction="ltr") / SMALLEST


@lru_cache(1024)
def face(file: Path, size: int, weight: int) -> ImageFont.FreeTypeFont:
    """A typeface, made to fit Source Serif of `size` px."""
    font = ImageFont.truetype(file, size * next(scale for name, scale in PACKAGES if file.name.startswith(name)))
    font.set_variation_by_axes([weight])
    return font
