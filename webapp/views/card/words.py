"""From clusters to words in typefaces: what a text looks like, how wide it is, and where a line of it may end.

Any text will do: what cannot be seen is left out. Words come in the order of reading, and each piece of them knows its
level, so that a line can be put in the order of display once it is known what stands in it.
"""

import unicodedata
from pathlib import Path
from typing import NamedTuple

from webapp.views.card.clusters import LONGEST, clusters, may_part
from webapp.views.card.directions import base_of, join, levels
from webapp.views.card.typefaces import Ink, glyphs, measured

ZWJ = "\u200d"


class Stretch(NamedTuple):
    """A piece of a word in one ink, one typeface and one direction."""

    text: str
    ink: Ink
    file: Path | None  # the typeface; None: boxes
    level: int  # odd: it runs to the left


class Word(NamedTuple):
    """What no line's end may part: a word, a Chinese character with its comma, some spaces, or one newline."""

    runs: list[Stretch]
    width: float  # em
    base: int  # the level of its paragraph

    @property
    def blank(self) -> bool:
        """Whether it is white space."""
        return self.runs[0].text.isspace()


def word(runs: list[Stretch], base: int) -> Word:
    """A word of these pieces, measured; `base` is the level of its paragraph."""
    return Word(runs, sum(measured(*run) for run in runs), base)


def words(parts: list[tuple[str, Ink]], unseen: str = "") -> list[Word]:
    """Text in its inks, cut where a line may end and measured. A word that changes its ink midway stays one.

    `unseen` is what stood before it in its first paragraph: it tells which way that one runs.
    """
    pieces = inked(parts)
    directions = directed("".join(cluster for cluster, _ in pieces), unseen)
    found: list[tuple[list[Stretch], int]] = []
    before, length, place = "\n", 0, 0
    for cluster, ink in pieces:
        level, base = directions[place]
        place += len(cluster)
        shown, file = glyphs(cluster, ink.weight)
        if not shown:
            if found and level != found[-1][0][-1].level:  # a mark that is not seen may part two numbers
                found[-1][0].append(Stretch("", ink, None, level))
            continue
        length += 1
        ends = may_part(before, cluster[0], length)
        if ends or length > LONGEST:
            found.append(([], base))
        length = 1 if ends else length
        before = cluster[0]
        append(found[-1][0], Stretch(shown, ink, file, level))
    return [word(*one) for one in found]


def inked(parts: list[tuple[str, Ink]]) -> list[tuple[str, Ink]]:
    """The clusters of all parts. A mark that another hand put on a letter has the letter's ink: it cannot stand alone."""
    found: list[tuple[str, Ink]] = []
    for text, ink in parts:
        last, of = found.pop() if found else ("", ink)
        first, *rest = clusters(last + text) or [""]
        found += [(unicodedata.normalize("NFC", first), of)] if first else []
        found += [(cluster, ink) for cluster in rest]
    return found


def directed(text: str, unseen: str) -> list[tuple[int, int]]:
    """Of each character its level, and that of its paragraph."""
    found: list[tuple[int, int]] = []
    for paragraph in text.split("\n"):
        base = base_of(unseen + paragraph)
        found += [(level, base) for level in (*levels(paragraph, base), base)]
        unseen = ""
    return found


def append(runs: list[Stretch], new: Stretch) -> None:
    """One more piece of a word. Where the ink changes between letters that join, ZWJ lets both keep their strokes."""
    last = runs[-1] if runs else None
    if last and last[1:] == new[1:]:
        runs[-1] = Stretch(last.text + new.text, *new[1:])
    elif last and last[2:] == new[2:] and join(last.text, new.text):
        runs[-1] = last._replace(text=last.text + ZWJ)
        runs.append(new._replace(text=ZWJ + new.text))
    else:
        runs.append(new)


def dots(ink: Ink, base: int) -> list[Word]:
    """The ellipsis that stands for what a line has no room for."""
    return [word([Stretch("…", ink, glyphs("…", ink.weight)[1], base)], base)]
