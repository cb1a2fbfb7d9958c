"""A sheet's text cut into pieces that can be edited: typed text, and the cells of what was written.

A cell is the fewest tokens that hold whole characters. It is red as long as nobody touches it; what is left of one that
is cut is typed text. Places count characters (code points).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from generate import CharacterGate
from webapp.sheets.spans import Spans, Typed, Written, normal


@dataclass(frozen=True)
class Origin:
    """Where a token is recorded: its run, its sample (PROMPT: the run's prompt) and its place there."""

    run: str
    sample: int
    place: int


@dataclass(frozen=True)
class Cell:
    """Whole characters that a model wrote, and the tokens that say them."""

    text: str
    origins: tuple[Origin, ...]


Piece = Typed | Cell


@dataclass(frozen=True)
class Said:
    """What a sample says that a sheet may show: the bytes of its whole tokens, in order, and `rest`, what a stop string
    left of the one that it cut. `done`: nothing more will come."""

    tokens: Sequence[bytes]
    rest: str = ""
    done: bool = True


Source = Callable[[str, int], Said]  # of a run's sample


def pieces_of(spans: Spans, source: Source, growing: bool = False) -> list[Piece]:
    """The pieces of a text. `growing`: its last run is being written, so a half character at the end has no text yet."""
    found: list[Piece] = []
    for written, group in groupby(spans, key=lambda span: isinstance(span, Written)):
        part = list(group)
        ends = part[-1] is spans[-1]
        found += cells_of(tokens_of(part, source), growing and ends) if written else [Typed(span.text) for span in part]
    return found


def tokens_of(spans: Iterable[Written], source: Source) -> Iterator[tuple[Origin, bytes] | Typed]:
    """The tokens of some spans one after the other, each with its bytes; and what a stop string left of one."""
    for span in spans:
        said = source(span.run, span.sample)
        end = len(said.tokens) if span.end is None else min(span.end, len(said.tokens))
        for place in range(span.start, end):
            yield Origin(span.run, span.sample, place), said.tokens[place]
        if span.end is None and said.rest:
            yield Typed(said.rest)


def cells_of(tokens: Iterable[tuple[Origin, bytes] | Typed], growing: bool = False) -> list[Piece]:
    """Tokens as cells. One without text belongs to the cell before it, or to the first one behind it.

    `growing`: the rest of a half character at the end is to come, and until then it has no text.
    """
    found: list[Piece] = []
    gate, held, origins = CharacterGate(), b"", ()
    for token in tokens:
        if isinstance(token, Typed):
            found += [Cell(held.decode("utf-8", "replace"), origins)] if origins else []
            gate, held, origins = CharacterGate(), b"", ()
            found.append(token)
            continue
        origin, data = token
        held, origins = held + data, (*origins, origin)
        if gate.feed(data):
            continue
        if held:
            found.append(Cell(held.decode("utf-8", "replace"), origins))
        elif found and isinstance(found[-1], Cell):
            found[-1] = Cell(found[-1].text, found[-1].origins + origins)
        else:
            continue  # it goes with the next
        held, origins = b"", ()
    if origins:
        found.append(Cell("" if growing else held.decode("utf-8", "replace"), origins))
    return found


def unfinished(tokens: Iterable[bytes]) -> bytes:
    """The bytes of the last cell of some tokens, if the rest of its last character may be to come; else none."""
    gate, held = CharacterGate(), b""
    for data in tokens:
        held = held + data if gate.feed(data) else b""
    return held


def text_of(pieces: Iterable[Piece]) -> str:
    """What is shown."""
    return "".join(piece.text for piece in pieces)


def spans_of(pieces: Iterable[Piece]) -> Spans:
    """The spans that some pieces are made of."""
    return normal(span for piece in pieces for span in spans_of_piece(piece))


def spans_of_piece(piece: Piece) -> Iterator[Typed | Written]:
    """The spans of one piece, a token each where it is a cell."""
    if isinstance(piece, Typed):
        yield piece
    else:
        yield from (Written(o.run, o.sample, o.place, o.place + 1) for o in piece.origins)


def cut(pieces: Sequence[Piece], at: int) -> tuple[list[Piece], list[Piece]]:
    """The pieces before a place and those behind it; a cell that is cut there is typed text on both sides."""
    place = 0
    for number, piece in enumerate(pieces):
        if place + len(piece.text) > at:
            inside = at - place
            if not inside:
                return list(pieces[:number]), list(pieces[number:])
            halves = Typed(piece.text[:inside]), Typed(piece.text[inside:])
            return [*pieces[:number], halves[0]], [halves[1], *pieces[number + 1 :]]
        place += len(piece.text)
    return list(pieces), []


def replaced(pieces: Sequence[Piece], at: int, removed: int, text: str) -> list[Piece]:
    """The pieces with `removed` characters from `at` on taken out and `text` put in, as typing does it."""
    before, rest = cut(pieces, at)
    _, after = cut(rest, removed)
    return [*before, *([Typed(text)] if text else []), *after]
