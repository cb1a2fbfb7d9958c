"""What a sheet's text is made of: what a person typed, and references to tokens that a run wrote.

Text is never stored beside a reference, so nobody can make a character red that no run wrote.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

PROMPT = -1  # in a sample's place: the token stands in the run's prompt


@dataclass(frozen=True)
class Typed:
    """Some text of a person's."""

    text: str


@dataclass(frozen=True)
class Written:
    """Tokens `start` up to `end` of a run's sample (PROMPT: of its prompt); end None: as far as the sample goes."""

    run: str
    sample: int
    start: int
    end: int | None

    def follows(self, before: "Typed | Written") -> bool:
        """Whether these tokens come right after those of `before` in the same sample."""
        return isinstance(before, Written) and (before.run, before.sample, before.end) == (
            self.run,
            self.sample,
            self.start,
        )


@dataclass(frozen=True)
class Left:
    """What a run had written that was removed since: black, and a span of its own until somebody types beside it."""

    text: str


Span = Typed | Written | Left
Spans = tuple[Span, ...]


def normal(spans: Iterable[Span]) -> Spans:
    """The same text in the fewest spans: equal texts and inks have equal spans."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if span == Typed("") or (isinstance(span, Written) and span.end is not None and span.start >= span.end):
            continue
        if isinstance(span, Typed) and isinstance(last, Typed):
            found[-1] = Typed(last.text + span.text)
        elif isinstance(span, Written) and last is not None and span.follows(last):
            found[-1] = replace(last, end=span.end)
        else:
            found.append(span)
    return tuple(found)


def runs_in(spans: Iterable[Span]) -> set[str]:
    """The ids of all runs that some spans refer to."""
    return {span.run for span in spans if isinstance(span, Written)}


def spans_to_json(spans: Iterable[Span]) -> list:
    """A string for what was typed, [run, sample, start, end] for what was written, [text] for what is left of a run."""
    return [s.text if isinstance(s, Typed) else list(astuple(s)) for s in spans]


def spans_from_json(stored: Iterable) -> Spans:
    """What `spans_to_json` gave."""
    return tuple(
        Typed(one) if isinstance(one, str) else Left(*one) if len(one) == 1 else Written(*one) for one in stored
    )
