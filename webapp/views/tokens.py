"""Tokens as HTML: cells of whole characters, escaped so that a text is shown exactly as it is."""

import html
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from markupsafe import escape as markup_escape

from generate import CharacterGate, Vocabulary, gettext

# C0 controls that HTML drops or hides are shown by their Unicode pictures; tab, LF and CR stay themselves
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
PICTURES |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # half a surrogate pair, as JSON may hold one: no UTF-8 has it
BREAKS = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "␍"})
VISIBLE = PICTURES | BREAKS  # a token out of its text
BLANKS = BREAKS | str.maketrans({" ": "␣", "\u00a0": "⍽"})  # what a token may have nothing else of


def visible(value: object) -> object:
    """What a template puts in a page: of plain text, the controls that HTML drops or hides as pictures."""
    return value.translate(PICTURES) if isinstance(value, str) and not isinstance(value, Markup) else value


def exact(text: str) -> Markup:
    """HTML for a field's value, which comes back as it is: with its controls."""
    return markup_escape(text)


def escape(text: str) -> str:
    """HTML that shows `text` exactly and has no line break of its own (one would break a server-sent event)."""
    return html.escape(text.translate(PICTURES)).replace("\r", "&#13;").replace("\n", "&#10;")


@dataclass(frozen=True)
class Cell:
    """The fewest tokens that hold whole characters: `text` as it decodes, from token `start` up to `end`.

    The cell of a special token has no text; `special` is what it is called.
    """

    text: str
    start: int
    end: int
    special: str = ""


def whole_cells(ids: np.ndarray, vocabulary: Vocabulary, start: int, before: bytes, done: bool) -> Iterator[Cell]:
    """Cells as `cells` cuts them, without half a character at the end whose rest is to come; all of them once all is `done`."""
    end = start + len(ids)
    for cell in cells(ids, vocabulary, start, before):
        if not done and cell.end == end and cell.text.endswith("\ufffd"):
            return
        yield cell


def cells(
    ids: np.ndarray,
    vocabulary: Vocabulary,
    start: int = 0,
    before: bytes = b"",
    room: int | None = None,
    chips: int | None = None,
) -> Iterator[Cell]:
    """Cut tokens into cells. `start` numbers the first token, `before` is a half character left over from before it.

    At most `room` bytes are shown (a stop string hides the rest); a half character at the end is a cell of its own.
    Special tokens have no cell, but for those from place `chips` on.
    """
    gate, held, first = CharacterGate(), before, start
    gate.feed(before)
    for place, index in enumerate(ids.tolist(), start):
        token = vocabulary.tokens[index]
        token = token if room is None else token[:room]
        room = None if room is None else room - len(token)
        held += token
        if gate.feed(token) == 0:
            if held:
                yield Cell(held.decode("utf-8", "replace"), first, place + 1)
            elif chips is not None and place >= chips and index in vocabulary.special:
                yield Cell("", place, place + 1, without_text(vocabulary))
            held, first = b"", place + 1
    if held:
        yield Cell(held.decode("utf-8", "replace"), first, start + len(ids))


def without_text(vocabulary: Vocabulary) -> str:
    """What a token is called that has no text: of several, nobody tells which ends a text."""
    return gettext("end of text") if len(vocabulary.special) <= 1 else gettext("special token")


def token_html(cell: Cell, named: str) -> str:
    """A cell as a span that can be pointed at: `data-n` is its first token's place, `data-m` how many it has, if several.

    A special token is a chip, whose name the style sheet writes: it is in no text that is copied.
    """
    if cell.special:
        return f'<span class="special" data-n="{cell.start}" aria-label="{cell.special}"></span>'
    several = f' data-m="{cell.end - cell.start}"' if cell.end - cell.start > 1 else ""
    named = f' class="{named}"' if named else ""
    return f'<span{named} data-n="{cell.start}"{several}>{escape(cell.text)}</span>'
