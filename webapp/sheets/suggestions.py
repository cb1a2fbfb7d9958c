"""Suggestions: a few short ways on from a place in a sheet. They are logs in memory, and a run only once one is taken.

Who asked owns them. They yield to all runs, and go after some minutes, or with their sheet.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy import select

from generate import Refusal, Request, RunLog
from webapp.runs.derivation import Beginning, add_turn
from webapp.runs.kinds import Relation
from webapp.runs.models import Models
from webapp.runs.repository import Vocabularies, find_run
from webapp.runs.tables import db
from webapp.runs.typed import gone_on
from webapp.runs.written import add_written, stretch_of
from webapp.sheets.pieces import Origin, Said
from webapp.sheets.prompt import Draft
from webapp.sheets.service import Asked, Sheets, Wish
from webapp.sheets.sources import said_by
from webapp.sheets.spans import Spans, Written
from webapp.sheets.tables import Sheet

COUNT = 3  # at once
LENGTH = 24  # tokens of each at the most
KEPT = 300.0  # seconds
MOST_OF_ONE, MOST = 4, 200  # that are kept of one visitor, and of all; the oldest go first
MOST_TOKENS = 300_000  # of all their prompts together, some 50 MB; then too


class Forgotten(Refusal):
    """There is no such suggestion, or not for this visitor. `status` is what HTTP calls it."""

    status = 410


@dataclass(frozen=True)
class Part:
    """Tokens `start` up to `end` of sample `number` that were taken and stored: they are those of a run, from its first on."""

    number: int
    start: int
    end: int
    run: str


@dataclass(eq=False)
class Suggestion:
    """Some ways on, each a sample of the log. `draft` and `columns` say what they go on from, as the text and as a run's
    row have it."""

    owner: str
    sheet_id: str
    wish: Wish
    request: Request
    log: RunLog
    draft: Draft
    columns: dict
    made: float
    parts: list[Part] = field(default_factory=list)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def said(self, number: int) -> Said:
        """What sample `number` says so far, in whole tokens."""
        log, sample = self.log, self.log.samples[number]
        with log.changed:
            ids, end, done = sample.read(0, sample.released)["id"], sample.text_end, sample.finish_reason is not None
        return said_by(ids, self.request.folder.tokenizer.vocabulary, end, done)

    def covered(self, number: int) -> int:
        """How many tokens of a sample are stored."""
        return max((part.end for part in self.parts if part.number == number), default=0)

    def spans(self, number: int, start: int, end: int) -> Spans:
        """Some tokens of a sample, all of which are stored."""
        found = []
        for part in self.parts:
            first, last = max(start, part.start), min(end, part.end)
            if part.number == number and first < last:
                found.append(Written(part.run, 0, first - part.start, last - part.start))
        return tuple(found)


class Suggestions:
    """Those of one server. All but `expire` needs an app context."""

    def __init__(
        self,
        sheets: Sheets,
        models: Models,
        vocabularies: Vocabularies,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._sheets, self._models, self._vocabularies, self.clock = sheets, models, vocabularies, clock
        self._all: dict[str, Suggestion] = {}  # the oldest first
        self._lock = threading.Lock()

    def ask(self, sheet: Sheet, owner: str, rev: int, at: int, wish: Wish, turn: int) -> Suggestion:
        """Ask for suggestions at a place in what a visitor sees of a sheet; what they asked for there before ends.

        `turn` counts how often they were asked for there already: with the same seed others come each time. Raises Stale,
        Refusal and Busy.
        """
        draft, beginning = self._sheets.prepared(sheet, sheet.owner == owner, rev, at, wish)
        sampling = replace(
            wish.going_on(draft),
            samples=COUNT,
            max_new_tokens=LENGTH,
            min_new_tokens=min(wish.sampling.min_new_tokens, LENGTH),
        )
        engine = self._models.engine_for(wish.folder, sampling)
        request = Request(wish.folder, sampling, COUNT * turn, owner, yields=True)
        log = RunLog(beginning.records, COUNT, beginning.blocked)
        columns = {name: value for name, value in beginning.columns().items() if name != "prompt"}  # the log has it
        made = Suggestion(owner, sheet.id, wish, request, log, draft, columns, self.clock())
        self._drop(self._outdone(made))
        engine.submit(request, log)
        with self._lock:
            self._all[made.id] = made
        return made

    def find(self, name: str, owner: str | None) -> Suggestion:
        """A visitor's suggestion; raises Forgotten."""
        self.expire()
        with self._lock:
            found = self._all.get(name)
        if found is None or found.owner != owner:
            raise Forgotten("These suggestions are gone; they are kept for five minutes at the most. Ask for new ones.")
        return found

    def take(self, sheet_id: str, asked: Asked, at: int, name: str, number: int, start: int, end: int) -> Sheet:
        """Put tokens `start` up to `end` of one of them at a place in a sheet, as a run's; commits.

        The run is all that was written by then of what is not stored yet. Raises Forgotten, Refusal where the text before is
        not the one that it was written for, and what `Sheets.take` does.
        """
        found = self.find(name, asked.owner)
        if number >= COUNT or not start < end <= len(found.said(number).tokens):
            raise Refusal("There is no such stretch of a suggestion.", "end")
        new: list[Part] = []

        def written(sheet: Sheet, draft: Draft) -> Spans:
            ids = found.log.prompt_ids + found.log.samples[number].read(0, start)["id"].tolist()
            if draft.ids != ids:
                raise Refusal("The text before it is another one now; ask for new suggestions.")
            if end > found.covered(number):
                new.append(self._store(found, number, sheet))
            whole = replace(found, parts=[*found.parts, *new])
            return whole.spans(number, start, end)

        sheet = self._sheets.take(sheet_id, asked, at, written, found.wish)
        found.parts += new
        return sheet

    def _store(self, found: Suggestion, number: int, sheet: Sheet) -> Part:
        """Add the run of what is not stored yet of a sample. Does not commit."""
        folder, log, start = found.request.folder, found.log, found.covered(number)
        vocabulary = folder.tokenizer.vocabulary
        stretch = stretch_of(log, number, vocabulary, start)
        run_id = secrets.token_urlsafe(12)
        columns, origins = self._columns(found, number, start)
        sampling = found.request.sampling
        options = replace(
            sampling,
            samples=1,
            max_new_tokens=sampling.max_new_tokens - start,
            min_new_tokens=max(0, sampling.min_new_tokens - start),
        )
        add_written(
            log,
            stretch,
            id=run_id,
            owner=sheet.owner,
            model=folder.name,
            fingerprint=folder.fingerprint(),
            vocabulary_id=self._vocabularies.keep(folder),
            vocab_size=folder.config.vocab_size,
            n_positions=folder.config.n_positions,
            options=options.as_dict(),
            sheet_id=sheet.id,
            origins=origins,
            **columns | {"first_sample": found.request.first_sample + number},
        )
        return Part(number, start, start + stretch.count, run_id)

    def _columns(self, found: Suggestion, number: int, start: int) -> tuple[dict, list]:
        """What a run's row says of where it starts, that begins at token `start` of a sample, and of its prompt's origins."""
        log, draft = found.log, found.draft
        if not start:
            return found.columns | {"prompt": log.prompt.tobytes()}, draft.packed_origins()
        before = found.spans(number, 0, start)
        records = np.concatenate((log.prompt, log.samples[number].read(0, start)))
        blocked = log.blocked_before(number, len(records))
        parent, authors = find_run(before[-1].run), add_turn(draft.authors, start, True)
        typed = gone_on(
            draft.typed, records["id"][len(log.prompt) :].tolist(), found.request.folder.tokenizer.vocabulary
        )
        beginning = Beginning(records, authors, Relation.CONTINUE, parent, 0, blocked=blocked, typed=typed)
        taken = [Origin(span.run, 0, place) for span in before for place in range(span.start, span.end)]
        return beginning.columns(), replace(draft, origins=[*draft.origins, *taken]).packed_origins()

    def expire(self) -> None:
        """Let go of those whose time is over."""
        limit = self.clock() - KEPT
        with self._lock:
            old = [one for one in self._all.values() if one.made <= limit]
        self._drop(old)

    def forget(self) -> None:
        """Let go of those whose sheet is gone, or hidden."""
        with self._lock:
            kept = list(self._all.values())
        shown = Sheet.id.in_({one.sheet_id for one in kept}) & Sheet.hidden.is_(None)
        there = set(db.session.scalars(select(Sheet.id).where(shown)))
        self._drop([one for one in kept if one.sheet_id not in there])

    def _outdone(self, new: Suggestion) -> list[Suggestion]:
        """Which make room for a new one."""
        with self._lock:
            kept = list(self._all.values())
        own = [one for one in kept if one.owner == new.owner]
        gone = [one for one in own if one.sheet_id == new.sheet_id]
        room = MOST_TOKENS - len(new.log.prompt)
        for one in reversed(kept):
            room -= len(one.log.prompt)
            if room < 0:
                gone.append(one)
        return [*gone, *own[: -(MOST_OF_ONE - 1)], *kept[: -(MOST - 1)]]

    def _drop(self, gone: list[Suggestion]) -> None:
        with self._lock:
            for one in gone:
                self._all.pop(one.id, None)
        for one in gone:
            self.stop(one)

    def stop(self, one: Suggestion) -> None:
        """Let nothing more be written of one."""
        if not one.log.done:
            self._models.engine.cancel(one.log)
