"""A run as its pages show it: its text in spans of tokens, as far as a reader has it, and the sentences around it."""

import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import groupby
from weakref import WeakKeyDictionary

import numpy as np
from markupsafe import Markup

from generate import UNK, RunLog, SampleLog, Vocabulary, context_at, counted, gettext, languages
from webapp.runs.tables import Run
from webapp.runs.transcript import Transcript
from webapp.views.lenses import classes
from webapp.views.sentences import ending, status
from webapp.views.tokens import Cell, cells, escape, token_html

UNKNOWN = UNK.encode()  # what a vocabulary of BERT's kind reads where it has no token


class Shown:
    """A sample's HTML, made once and shared by all who read it: `pieces[n]` is what token n added, "" within a character."""

    def __init__(self):
        self.pieces: list[str] = []
        self._size = 0  # bytes of these tokens
        self._making = threading.Lock()

    def until(self, released: int, room: int | None, run: "RunView", number: int) -> list[str]:
        """The pieces of at least `released` tokens. `room` is where the text ends, in bytes, once that is known."""
        if len(self.pieces) < released:
            with self._making:
                self._make(released, room, run, number)
        return self.pieces

    def _make(self, released: int, room: int | None, run: "RunView", number: int) -> None:
        start = len(self.pieces)
        records = run.log.samples[number].read(start, max(start, released))
        ids = records["id"]
        new, before = [""] * len(ids), b"" if start else run.half
        for cell in cells(ids, run.vocabulary, start, before, None if room is None else max(0, room - self._size)):
            new[cell.end - 1 - start] += run.cell_html(cell, records[cell.start - start : cell.end - start])
        self._size += len(run.vocabulary.bytes_of(ids))
        self.pieces += new


class Pieces:
    """The HTML of all samples that somebody reads, in each language, as long as their logs are in memory."""

    def __init__(self):
        self._shown: WeakKeyDictionary[SampleLog, dict[str, Shown]] = WeakKeyDictionary()
        self._sharing = threading.Lock()

    def of(self, sample: SampleLog) -> Shown:
        """The one that all readers of a sample share who have one language."""
        with self._sharing:
            return self._shown.setdefault(sample, {}).setdefault(languages.language(), Shown())


class SampleView:
    """One reader's place in one sample: tells what is new in the log as HTML, whole characters only.

    A reader may have seen what the log does not hold: tokens that a killed server sent and did not store. It waits until
    they are written again, and is then given the whole text `anew`, lest another precision chose others.
    """

    def __init__(self, run: "RunView", number: int, sent: int = 0, anew: bool = False):
        self._run, self.number = run, number
        self._sample = run.log.samples[number]
        with run.log.changed:
            ahead = sent > self._sample.released or (anew and sent > 0)
        self._wait_for = sent if ahead else None
        self.sent = 0 if ahead else sent
        self.swap = "beforeend"  # how the page takes the last news in
        self._told_half = False
        self._shown = run.pieces.of(self._sample)

    @property
    def cursor(self) -> int:
        """How many tokens the reader has, those included that it has from before and waits for."""
        return self.sent if self._wait_for is None else self._wait_for

    def news(self) -> str | None:
        """HTML of what was released since the last call, or None; moves on."""
        with self._run.log.changed:
            released, end = self._sample.released, self._sample.text_end
            finished = self._sample.finish_reason is not None
        if self._wait_for is not None and released < self._wait_for and not finished:
            return None
        anew = self._wait_for is not None
        self.swap, self._wait_for = "innerHTML" if anew else "beforeend", None
        if finished and not released and self._run.half and not self._told_half:
            self._told_half = True
            return self._run.cell_html(Cell(self._run.half.decode("utf-8", "replace"), 0, 0), self._sample.read(0, 0))
        if released <= self.sent and not anew:
            return None
        pieces = self._shown.until(released, end if finished else None, self._run, self.number)
        text, self.sent = "".join(pieces[self.sent : released]), released
        return text


class RunView(Transcript):
    """A run as pages show it: its stored row, its log (live or stored) and its vocabulary.

    It touches no database once made, so that a stream may hold it. `pieces` is shared by all views of an app; `begin_of`
    finds the token that the model puts before every prompt, if it does.
    """

    def __init__(
        self, run: Run, log: RunLog, vocabulary: Vocabulary, pieces: Pieces, begin_of: Callable[[], int | None]
    ):
        super().__init__(log, vocabulary)
        self.pieces, self._begin_of = pieces, begin_of
        self.id, self.model, self.n_positions = run.id, run.model, run.n_positions
        self.options, self.authors, self.typed = run.options, run.authors, run.typed
        self._n_keep = run.options.get("n_keep", 0)  # runs of before have none

    @property
    def asked(self) -> str:
        """The prompt as it was typed where that is stored, else as its tokens have it."""
        return self.prompt_text if self.typed is None else self.typed

    @property
    def opening(self) -> str:
        """The first words of the prompt, for a title."""
        return " ".join(self.asked.split())[:60] or gettext("A text from nothing")

    def context_at(self, count: int) -> tuple[range, range]:
        """The places of the tokens since the root that the model saw when `count` were there: those that were kept in
        mind, none before its window was first full, and the newest."""
        return context_at(count, self.n_positions, self._n_keep)

    @property
    def not_known(self) -> int:
        """How many of the prompt's tokens stand for what the vocabulary has no token for; 0 where it has one for anything."""
        return 0 if self.typed is None else sum(self.vocabulary.tokens[i] == UNKNOWN for i in self.prompt_ids.tolist())

    @cached_property
    def unread(self) -> range:
        """The places of the prompt's tokens that lie outside of the model's window."""
        kept, newest = self.context_at(len(self.prompt_ids))
        return range(kept.stop, newest.start)

    @cached_property
    def text_from(self) -> int:
        """The place of the first token that somebody wrote: 1 where the end token stands for an empty prompt, or where the
        model's own token stands before every prompt."""
        first = int(self.prompt_ids[0])
        unseen = first in self.vocabulary.special and (self.authors[0] == 1 or first == self._begin_of())
        return 1 if unseen else 0

    def prompt_cells(self) -> Iterator[tuple[Cell, bool, bool]]:
        """The whole characters of the prompt: each cell, whether the model wrote it, and whether the model read it."""
        turn_ends = np.cumsum(self.authors)
        for cell in cells(self.prompt_ids, self.vocabulary, room=len(self.head), chips=self.text_from):
            turn = int(np.searchsorted(turn_ends, cell.start, side="right"))
            yield cell, turn % 2 == 1, cell.start not in self.unread

    def prompt_parts(self) -> list[tuple[str, bool, bool]]:
        """The prompt cut where its author or its being read changes: (text, the model wrote it, the model read it)."""
        alike = groupby(self.prompt_cells(), key=lambda found: found[1:])
        return [("".join(cell.text for cell, *_ in found), *kind) for kind, found in alike]

    def prompt_html(self) -> Markup:
        """The prompt in the inks of those who wrote it, each token that was read in a span of its own."""
        parts: list[str] = []
        for (by_model, read), found in groupby(self.prompt_cells(), key=lambda found: found[1:]):
            parts.append(f'<span class="{"continuation" if by_model else "prompt"}{"" if read else " unread"}">')
            for cell, *_ in found:
                named = classes(self.log.prompt[cell.start : cell.end])
                parts.append(token_html(cell, named) if read or named or not cell.text else escape(cell.text))
            parts.append("</span>")
        return Markup("".join(parts))

    def cell_html(self, cell: Cell, records: np.ndarray) -> str:
        """A token's span; before it a mark (no text) where the model's window was moved on."""
        root = len(self.prompt_ids)
        (_, before), (kept, newest) = (self.context_at(root + place - 1) for place in (cell.start, cell.end))
        mark = moved_mark(len(kept)) if newest.start != before.start else ""
        return f"{mark}{token_html(cell, classes(records))}"

    def status(self, problem: str | None = None, in_sheet: bool = False) -> str:
        """One sentence on where the run stands, on its page or `in_sheet`; `problem` is why the engine is not ready, if it is
        not."""
        return status(self.log, self.model, problem) or self.ending(0, in_sheet)

    def ending(self, number: int, in_sheet: bool = False) -> str:
        """One sentence on how a sample ended, or ""."""
        if self.log.withdrawn:  # what ends there is not the run
            return ""
        return ending(self, self.options, number, self.model, in_sheet)


def moved_mark(kept: int) -> str:
    """HTML of the mark where the model's window was moved on, with so many of the first tokens kept in mind."""
    told = gettext("From here on the model remembers only the later half of what it saw.")
    if kept:
        told = gettext(
            "From here on the model remembers only the text’s first {tokens} and the later half of what it saw.",
            tokens=counted(kept),
        )
    return f'<i class="moved" title="{escape(told)}"></i>'


def shown(view: RunView) -> tuple[bool, list[dict]]:
    """Whether a run is done, and what a page shows at once of each sample: its HTML, and the count of tokens in it.

    The first is asked before the text is read: a page that is told too early that a run is done would lose its end.
    """
    done, samples = view.log.done, []
    for number in range(len(view.log.samples)):
        sample = SampleView(view, number)
        samples.append(
            {"number": number, "html": sample.news() or "", "sent": sample.sent, "ending": view.ending(number)}
        )
    return done, samples


def tool_facts(view: RunView, mine: bool, done: bool) -> dict:
    """What the line of buttons under a story depends on."""
    return {"view": view, "done": done, "mine": mine}
