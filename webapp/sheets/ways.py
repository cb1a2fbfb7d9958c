"""The three ways in which a model is asked to write in a sheet: at the caret, once more, and in the place of a word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from webapp.runs.kinds import Relation
from webapp.sheets.content import Content, not_there, nothing_to_retry, retried, split, with_word, wrote
from webapp.sheets.pieces import Origin, Source, cut, pieces_of, spans_of
from webapp.sheets.spans import PROMPT, Spans


class Way(Protocol):
    """What a run goes on from, and what the sheet holds then."""

    chosen: int | None  # the id of a token that a person chose to begin with
    relation: Relation | None  # to the run of `parent`; None: as the two texts have it

    def before(self, content: Content, source: Source) -> Spans:
        """The text that the run goes on from; raises Refusal where there is none."""

    def parent(self, content: Content, origins: Sequence[Origin | None]) -> Origin | None:
        """A token of the run that this one comes from, given the origins of its prompt's tokens."""

    def after(self, content: Content, source: Source, run: str, place: int) -> Content:
        """What the sheet holds once the run has begun; `place` is where in its prompt the chosen token stands."""


@dataclass(frozen=True)
class WriteOn:
    """From the caret on."""

    at: int
    chosen = relation = None

    def before(self, content: Content, source: Source) -> Spans:
        """All up to the caret."""
        return spans_of(cut(pieces_of(content.spans, source), self.at)[0])

    def parent(self, content: Content, origins: Sequence[Origin | None]) -> Origin | None:
        """The last token that was written in it."""
        return next((origin for origin in reversed(origins) if origin and origin.sample != PROMPT), None)

    def after(self, content: Content, source: Source, run: str, place: int) -> Content:
        """The run's stretch behind the caret."""
        return wrote(content, self.at, run, source)


@dataclass(frozen=True)
class Retry:
    """From where the last run began."""

    chosen = None
    relation = Relation.RETRY

    def before(self, content: Content, source: Source) -> Spans:
        """All up to where it began, and the word that was chosen there, if one was."""
        here = content.at_try()
        if here is None:
            raise nothing_to_retry()
        return (*here[0], *here[1][: content.tries[content.current].lead])

    def parent(self, content: Content, origins: Sequence[Origin | None]) -> Origin | None:
        """The last run, as far as its prompt goes."""
        return Origin(content.tries[content.current].run, PROMPT, 0)

    def after(self, content: Content, source: Source, run: str, place: int) -> Content:
        """The new run's stretch in the place of the last one's."""
        return retried(content, run)


@dataclass(frozen=True)
class AnotherWord:
    """From a token's place, which the chosen one takes (None: whichever comes)."""

    token: Origin
    chosen: int | None
    relation = Relation.FORK

    def before(self, content: Content, source: Source) -> Spans:
        """All before the token."""
        return (split(content.spans, self.token) or not_there())[0]

    def parent(self, content: Content, origins: Sequence[Origin | None]) -> Origin | None:
        """The run that the token is of."""
        return self.token

    def after(self, content: Content, source: Source, run: str, place: int) -> Content:
        """The new run's stretch from that place on."""
        ended = replace(
            content, spans=spans_of(pieces_of(content.spans, source))
        )  # so that nothing is set aside that is empty
        return with_word(ended, self.token, run, None if self.chosen is None else place)
