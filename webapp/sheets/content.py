"""What a sheet holds at one moment, and what can be done to it. Nothing here knows of databases, engines or requests.

A *try* is one of several ways on from the same place, its anchor: the first of the tokens that stand there. The current
one stands in the text, from its anchor to the end; the others are kept beside it, each with what was set aside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

from generate import Refusal
from webapp.sheets.pieces import Origin, Piece, Source, cut, pieces_of, replaced, spans_of, text_of
from webapp.sheets.spans import PROMPT, Spans, Written, normal, runs_in, spans_from_json, spans_to_json

MOST_TRIES = 32  # kept at one place; the oldest go first, and stay among the sheet's versions


@dataclass(frozen=True)
class Try:
    """One way on: the run that wrote it, where it begins, and what it says while another is shown.

    `lead` is 1 where its first token is a word that a person chose, which another try leaves standing.
    """

    run: str
    anchor: Origin
    lead: int = 0
    spans: Spans = ()
    aside: tuple[Spans, ...] = ()


@dataclass(frozen=True)
class Content:
    """A sheet's text, what was set aside (the newest first), the tries at the place of the last writing, and what the model
    shall keep in mind."""

    spans: Spans = ()
    aside: tuple[Spans, ...] = ()
    tries: tuple[Try, ...] = ()
    current: int = 0
    memory: str = ""

    @property
    def open(self) -> Written | None:
        """The last span, if it goes as far as its run does."""
        last = self.spans[-1] if self.spans else None
        return last if isinstance(last, Written) and last.end is None else None

    def parts(self) -> Iterator[Spans]:
        """All texts in it: its own, what was set aside, and the tries that are not shown, each with what it set aside."""
        yield from (self.spans, *self.aside)
        for one in self.tries:
            yield from (one.spans, *one.aside)

    def at_try(self) -> tuple[Spans, Spans] | None:
        """The text before the current try, and the try; None when there is none, or its beginning was changed since."""
        return split(self.spans, self.tries[self.current].anchor) if self.tries else None


def split(spans: Spans, token: Origin) -> tuple[Spans, Spans] | None:
    """The spans before a token, and those from it on; None when it is not among them."""
    for number, span in enumerate(spans):
        if not isinstance(span, Written) or (span.run, span.sample) != (token.run, token.sample):
            continue
        if span.start <= token.place and (span.end is None or token.place < span.end):
            halves = replace(span, end=token.place), replace(span, start=token.place)
            return normal([*spans[:number], halves[0]]), normal([halves[1], *spans[number + 1 :]])
    return None


def edited(content: Content, edits: Sequence[tuple[int, int, str]], source: Source, seen: int | None = None) -> Content:
    """Typing: each edit is (place, characters taken out, text put in), on the text that the one before left.

    `seen`: a run is being written, and the person who types sees so many of its tokens. An edit at the beginning of its
    stretch, or further on, closes it there. Raises Refusal for a place that is not in the text.
    """
    going = content.open if seen is not None else None
    if going is not None:
        before = pieces_of(content.spans[:-1], source, growing=True)
        if stays_before(edits, len(text_of(before))):
            return replace(content, spans=(*spans_of(typed(before, edits)), going))
    return replace(
        content, spans=spans_of(typed(pieces_of(closed(content, seen), source, growing=going is not None), edits))
    )


def stays_before(edits: Sequence[tuple[int, int, str]], border: int) -> bool:
    """Whether edits, one after the other, leave all from a place in the text on as it is."""
    for at, removed, text in edits:
        if not (0 <= at < border and at + removed <= border):
            return False
        border += len(text) - removed
    return True


def typed(pieces: Sequence[Piece], edits: Sequence[tuple[int, int, str]]) -> Sequence[Piece]:
    """The pieces after edits, each on what the one before left; raises Refusal for a place that is not in the text."""
    length = len(text_of(pieces))
    for at, removed, text in edits:
        if not (0 <= at <= at + removed <= length):
            raise Refusal(
                "edits must lie within the text of {length:,} characters, not from {at} to {end}.",
                "edits",
                length=length,
                at=at,
                end=at + removed,
            )
        pieces = replaced(pieces, at, removed, text)
        length += len(text) - removed
    return pieces


def closed(content: Content, seen: int | None) -> Spans:
    """The text with its open run taken as far as `seen` tokens; None: as far as it goes."""
    if content.open is None or seen is None:
        return content.spans
    return normal([*content.spans[:-1], replace(content.open, end=seen)])


def wrote(content: Content, at: int, run: str, source: Source) -> Content:
    """A run goes on from a place in the text; what stands behind it is set aside. Raises Refusal for a wrong place."""
    before, after = cut(pieces_of(content.spans, source), at)
    aside = with_piece(content.aside, spans_of(after))
    spans, tries = (*spans_of(before), Written(run, 0, 0, None)), (Try(run, Origin(run, 0, 0)),)
    return replace(content, spans=spans, aside=aside, tries=tries, current=0)


def put_in(content: Content, at: int, written: Spans, source: Source) -> Content:
    """Tokens of a run at a place in the text; what stands behind it stays there. Raises Refusal for a wrong place.

    They are the current try, or more of it where that is of the same run.
    """
    before, after = cut(pieces_of(content.spans, source), at)
    first = written[0]
    tries = content.tries
    if not tries or tries[content.current].run != first.run:
        tries = (Try(first.run, Origin(first.run, first.sample, first.start)),)
    spans = normal([*spans_of(before), *written, *spans_of(after)])
    return replace(content, spans=spans, tries=tries, current=min(content.current, len(tries) - 1))


def retried(content: Content, run: str) -> Content:
    """Another run in the place of the last one; what stands behind that is set aside."""
    head, rest = content.at_try() or ((), ())
    if not rest:
        raise nothing_to_retry()
    old = content.tries[content.current]
    lead = rest[: old.lead]
    mine = [n for n, span in enumerate(rest) if isinstance(span, Written) and span.run == old.run]
    aside = with_piece(content.aside, rest[max(mine, default=0) + 1 :])
    anchor = old.anchor if lead else Origin(run, 0, 0)
    tries = (*left(content, rest).tries, Try(run, anchor, len(lead)))[-MOST_TRIES:]
    spans = (*head, *lead, Written(run, 0, 0, None))
    return replace(content, spans=spans, aside=aside, tries=tries, current=len(tries) - 1)


def nothing_to_retry() -> Refusal:
    """The refusal where no writing of the model stands."""
    return Refusal(
        "There is nothing to try again: the last writing of the model does not stand in the text with its beginning."
    )


def with_word(content: Content, token: Origin, run: str, chosen: int | None) -> Content:
    """A run goes on in the place of a token, after the one that was chosen for it, if one was.

    `chosen` is its place in the run's prompt. What stood there is one of the tries, and what was behind it is set aside.
    """
    head, rest = split(content.spans, token) or not_there()
    aside = with_piece(content.aside, normal([replace(rest[0], start=token.place + 1), *rest[1:]]))
    here = content.at_try()
    before = left(content, rest).tries if here and here[0] == head else (Try(token.run, token, 0, rest, content.aside),)
    word = () if chosen is None else (Written(run, PROMPT, chosen, chosen + 1),)
    anchor = Origin(run, 0, 0) if chosen is None else Origin(run, PROMPT, chosen)
    tries = (*before, Try(run, anchor, len(word)))[-MOST_TRIES:]
    spans = (*head, *word, Written(run, 0, 0, None))
    return replace(content, spans=spans, aside=aside, tries=tries, current=len(tries) - 1)


def not_there() -> tuple[Spans, Spans]:
    """Raises the refusal for a token that does not stand in the text."""
    raise Refusal("That word does not stand in the text any more.", "place")


def flipped(content: Content, to: int) -> Content:
    """Another of the tries in the place of the current one. Raises Refusal where there is none."""
    here = content.at_try()
    if here is None or not (0 <= to < len(content.tries)):
        raise Refusal("There is no try number {to} at this place.", "to", to=to + 1)
    if to == content.current:
        return content
    tries, shown = list(left(content, here[1]).tries), content.tries[to]
    tries[to] = replace(shown, spans=(), aside=())
    spans = normal([*here[0], *shown.spans])
    return replace(content, spans=spans, aside=shown.aside, tries=tuple(tries), current=to)


def left(content: Content, rest: Spans) -> Content:
    """The content with the current try noted as it is, `rest`, before another is shown."""
    tries = list(content.tries)
    tries[content.current] = replace(tries[content.current], spans=rest, aside=content.aside)
    return replace(content, tries=tuple(tries))


def put_back(content: Content, piece: int) -> Content:
    """Something that was set aside, at the end of the text again. Raises Refusal where there is no such piece."""
    if not (0 <= piece < len(content.aside)):
        raise Refusal("Nothing is set aside there.", "piece")
    aside = content.aside[:piece] + content.aside[piece + 1 :]
    return replace(content, spans=normal([*content.spans, *content.aside[piece]]), aside=aside)


def with_piece(aside: tuple[Spans, ...], piece: Spans) -> tuple[Spans, ...]:
    """What is set aside with one more piece, unless there is nothing in it."""
    return (piece, *aside) if piece else aside


def tries_to_json(tries: Sequence[Try]) -> list:
    """What is stored of them."""
    return [[t.run, list(astuple(t.anchor)), t.lead, spans_to_json(t.spans), aside_to_json(t.aside)] for t in tries]


def tries_from_json(stored: list) -> tuple[Try, ...]:
    """What `tries_to_json` gave."""
    return tuple(
        Try(run, Origin(*anchor), lead, spans_from_json(spans), aside_from_json(aside))
        for run, anchor, lead, spans, aside in stored
    )


def aside_to_json(aside: Sequence[Spans]) -> list:
    """A list of spans for each piece that was set aside."""
    return [spans_to_json(piece) for piece in aside]


def aside_from_json(stored: list) -> tuple[Spans, ...]:
    """What `aside_to_json` gave."""
    return tuple(map(spans_from_json, stored))


def runs_of(content: Content) -> set[str]:
    """The ids of all runs that a content refers to."""
    return set().union(*map(runs_in, content.parts()))
