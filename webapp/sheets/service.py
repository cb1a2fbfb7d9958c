"""What can be asked of sheets: to be made, typed in, written on by a model, taken back, copied, removed."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from generate import ModelFolder, Refusal, RunState, Sampling
from webapp.runs.derivation import Beginning
from webapp.runs.kinds import GoneReason
from webapp.runs.repository import Vocabularies, find_run, get_run
from webapp.runs.service import Service
from webapp.runs.tables import Run, db
from webapp.sheets.content import Content, closed, edited, flipped, put_back, put_in
from webapp.sheets.desks import Desks, News
from webapp.sheets.pieces import pieces_of, text_of
from webapp.sheets.prompt import Draft, beginning_of, check_memory, chosen_record, draft_of
from webapp.sheets.sources import Found, Sources
from webapp.sheets.spans import PROMPT, Spans, spans_from_json
from webapp.sheets.store import (
    add_sheet,
    changed,
    content_of,
    find_sheet,
    hold_copies,
    locked,
    moved,
    note_key,
    remove_sheet,
    require_shown,
    rev_after,
    sheet_made_by,
    stale,
)
from webapp.sheets.tables import Sheet
from webapp.sheets.ways import Way, WriteOn

Edits = Sequence[tuple[int, int, str]]
PATIENCE, LOOK = 5.0, 0.1  # seconds that a request waits for what was seen before a crash; between two looks
WAITING = (
    16  # requests that do so at once at the most, as each holds a thread; others are told to look at the sheet first
)


@dataclass(frozen=True)
class Asked:
    """What every request that changes a sheet says: whose it is, its key, and what it is based on: a revision, and how
    many tokens of the run that is being written on its page (None: none is). `behind`: it is based on what the request of
    this key has led to, whichever revision that is."""

    owner: str | None
    key: str
    rev: int
    seen: int | None = None
    behind: str | None = None


@dataclass(frozen=True)
class Wish:
    """How a model shall write: with which options, whether typed names of special tokens are those tokens, and the
    form's fields that say so."""

    folder: ModelFolder
    sampling: Sampling
    parse_special: bool
    fields: dict[str, str]

    def going_on(self, draft: Draft) -> Sampling:
        """The options for a run that goes on from a sheet's text."""
        return replace(self.sampling, samples=1, n_keep=draft.keep or self.sampling.n_keep)


class Sheets:
    """The sheets of one app; all needs an app context."""

    def __init__(self, runs: Service, vocabularies: Vocabularies, sources: Sources, desks: Desks):
        self._runs, self._vocabularies = runs, vocabularies
        self.sources, self._desks = sources, desks
        self._waiting = threading.BoundedSemaphore(WAITING)

    # What is done to it

    def make(self, owner: str, is_new: bool, spans: Spans, edits: Edits, key: str, **about) -> Sheet:
        """A new sheet that holds some spans, and what was typed on them, or the one that this request has made; commits.

        `is_new`: the visitor was nobody until now. The sheet may then be in the name that was given to them the first time,
        whose cookie did not come.
        """
        sheet_id = sheet_made_by(key)
        made = db.session.get(Sheet, sheet_id)
        if made is not None and (is_new or made.owner == owner):
            require_shown(made)
            return made
        try:
            return self._made(sheet_id if made is None else secrets.token_urlsafe(12), owner, spans, edits, key, about)
        except IntegrityError:  # it came twice at the same moment
            db.session.rollback()
            return find_sheet(sheet_id)

    def _made(self, sheet_id: str, owner: str, spans: Spans, edits: Edits, key: str, about: dict) -> Sheet:
        content, memory = Content(spans), about.pop("memory", "")
        self._check_size(memory, "memory")
        minded = replace(content, memory=memory)
        after = self._typed(minded, edits, self.sources.read(spans), None)
        sheet = add_sheet(sheet_id, owner, content)
        for name, value in about.items():
            setattr(sheet, name, value)
        changed(sheet, content, minded)  # can be taken back by itself
        changed(sheet, minded, after)
        note_key(sheet, key)
        db.session.commit()
        return sheet

    def type(self, sheet_id: str, asked: Asked, edits: Edits) -> Sheet:
        """Typing, as `content.edited` has it."""
        return self._change(
            sheet_id, asked, lambda content, found, _: self._typed(content, edits, found, asked.seen), keep=True
        )

    def flip(self, sheet_id: str, asked: Asked, to: int) -> Sheet:
        """Show another of the tries."""
        return self._change(sheet_id, asked, lambda content, found, seen: flipped(content, to))

    def put_back(self, sheet_id: str, asked: Asked, piece: int) -> Sheet:
        """Put something that was set aside at the end of the text."""
        return self._change(sheet_id, asked, lambda content, found, seen: put_back(content, piece))

    def undo(self, sheet_id: str, asked: Asked, by: int) -> Sheet:
        """Take the last change back (`by` -1), or do it again (1)."""
        with self._changing(sheet_id, asked) as (sheet, now):
            if now is not None:
                before, _ = now
                after = moved(sheet, before, by)
                note_key(sheet, asked.key)
                self._commit(sheet, before, after)
        return sheet

    def write(self, sheet_id: str, asked: Asked, wish: Wish, way: Way) -> Sheet:
        """Let a model write: change a sheet by a run, which is stored in the same transaction."""
        vocabulary = self._vocabularies.keep(wish.folder)  # commits, where it is a new one
        with self._changing(sheet_id, asked) as (sheet, now):
            if now is None:
                return sheet
            before, found = now
            writing = found.growing(before.open)
            here = replace(before, spans=closed(before, (asked.seen or 0) if writing else None))
            draft = self._draft(way.before(here, found), found, wish, sheet.memory, vocabulary)
            beginning = self._beginning(draft, here, way, wish)
            run_id = secrets.token_urlsafe(12)
            changed(sheet, before, way.after(here, found, run_id, len(draft.ids) - 1))
            note_key(sheet, asked.key)
            sheet.shown, sheet.shown_rev, sheet.run_id = sheet.spans, sheet.shown_rev + 1, run_id
            sheet.options = wish.fields
            kept = {"sheet_id": sheet.id, "origins": draft.packed_origins()}
            self._runs.start(wish.folder, beginning, wish.going_on(draft), sheet.owner, run_id, **kept)
        if writing:  # not before the new run has a place in the line: else a full one would end the old for nothing
            self._runs.stop(find_run(writing.run))
        return self._told(sheet_id)

    def prepared(self, sheet: Sheet, mine: bool, rev: int, at: int, wish: Wish) -> tuple[Draft, Beginning]:
        """What a model would go on from at a place in what somebody sees of a sheet, which does not change.

        Raises Stale unless that is at `rev`, and Refusal where nothing can be written there now.
        """
        vocabulary = self._vocabularies.keep(wish.folder)
        if rev != (now := sheet.rev if mine else sheet.shown_rev):
            raise stale(now)
        content = content_of(sheet) if mine else Content(spans_from_json(sheet.shown))
        found = self.sources.read(content.spans)
        if found.growing(content.open):
            raise Refusal("The model is writing in this sheet just now; ask again once that has ended.")
        way = WriteOn(at)
        draft = self._draft(way.before(content, found), found, wish, sheet.memory if mine else "", vocabulary)
        return draft, self._beginning(draft, content, way, wish)

    def prepared_empty(self, memory: str, wish: Wish) -> Draft:
        """What it would begin with in a sheet that holds nothing but what is to be kept in mind; raises Refusal."""
        self._check_size(memory, "memory")
        return self._draft((), self.sources.read(()), wish, memory, self._vocabularies.keep(wish.folder))

    def take(self, sheet_id: str, asked: Asked, at: int, written: Callable[[Sheet, Draft], Spans], wish: Wish) -> Sheet:
        """Put something at a place that was written for the text before it. `written` is told the sheet and that text, as
        the model has it, and adds to the same transaction what its spans refer to; commits."""
        vocabulary = self._vocabularies.keep(wish.folder)
        with self._changing(sheet_id, asked) as (sheet, now):
            if now is None:
                return sheet
            before, found = now
            seen = (asked.seen or 0) if found.growing(before.open) else None
            here = replace(before, spans=closed(before, seen))
            draft = self._draft(WriteOn(at).before(here, found), found, wish, sheet.memory, vocabulary)
            after = put_in(here, at, written(sheet, draft), found)
            changed(sheet, before, after)
            note_key(sheet, asked.key)
            sheet.shown, sheet.shown_rev = sheet.spans, sheet.shown_rev + 1
            self._commit(sheet, before, after)
        return sheet

    def _draft(self, before: Spans, found: Found, wish: Wish, memory: str, vocabulary: str) -> Draft:
        """A text as the model that is wished for has it."""
        check_memory(memory, wish.folder)
        return draft_of(pieces_of(before, found), wish.folder, vocabulary, found, memory, wish.parse_special)

    def _beginning(self, draft: Draft, content: Content, way: Way, wish: Wish) -> Beginning:
        """What the run starts from; raises Refusal where it cannot."""
        origin = way.parent(content, draft.origins)
        parent = get_run(origin.run) if origin else None
        log = self._runs.log_of(parent) if parent else None
        number = None if not parent or origin.sample == PROMPT else origin.sample
        record = None
        if way.chosen is not None:
            if parent is None or not self._vocabularies.same(parent, wish.folder):
                raise Refusal(
                    "Only the model that wrote this word, or one with its tokens, can go on from another.", "model"
                )
            record = chosen_record(parent, log, origin, way.chosen, wish.folder)
            draft.add_chosen(way.chosen, wish.folder.tokenizer.vocabulary)
        beginning, same = beginning_of(draft, wish.folder, parent, log, number)
        if record is not None and same >= len(draft.ids) - 1:
            beginning.records[-1:] = record
        if size := self._runs.oversize(beginning.ids, wish.folder.tokenizer.vocabulary):
            raise Refusal(
                "The text has {size:,} bytes and cannot be continued; the limit is {limit:,}.",
                size=size,
                limit=self._runs.max_prompt,
            )
        return replace(beginning, relation=way.relation) if way.relation and parent else beginning

    def settle(self, sheet_id: str, owner: str | None, about: dict, memory: str | None, known: str | None) -> Sheet:
        """Note options or the lens, and what is to be kept in mind, which can be taken back as typing can; commits.

        Raises Stale where something else is kept in mind by now than was `known` (None: whatever it is).
        """
        self._check_size(memory or "", "memory")
        sheet = locked(sheet_id, owner)
        before = content_of(sheet)
        if memory is not None and known not in (None, before.memory) and memory != before.memory:
            rev = sheet.rev
            db.session.rollback()
            raise stale(rev)
        for name, value in about.items():
            setattr(sheet, name, value)
        if memory is not None:
            changed(sheet, before, replace(before, memory=memory))
        db.session.commit()
        return self._told(sheet_id)

    def stop(self, sheet_id: str, owner: str | None) -> None:
        """End the run that is being written; what it wrote stays."""
        run_id = locked(sheet_id, owner).run_id
        db.session.rollback()
        run = get_run(run_id) if run_id else None
        if run is not None:
            self._runs.stop(run)

    def delete(self, sheet_id: str, owner: str | None) -> None:
        """Remove a sheet with its history and all runs that were written in it; commits."""
        if find_sheet(sheet_id).owner == owner:
            hold_copies(sheet_id)
        self.remove(locked(sheet_id, owner), GoneReason.DELETED)

    def remove(self, sheet: Sheet, reason: GoneReason) -> None:
        """Remove a sheet whosoever it is, with its history and all runs that were written in it, together or not at all;
        commits."""
        sheet_id = sheet.id
        runs = db.session.execute(select(Run.id, Run.parent_id).where(Run.sheet_id == sheet_id)).all()
        remove_sheet(sheet)
        self._runs.delete_all([tuple(run) for run in runs], reason)
        self._desks.end(sheet_id)

    def hidden(self, sheet_id: str) -> None:
        """A sheet was hidden: send its readers here away at once."""
        self._desks.end(sheet_id)

    # What is not asked from outside

    @contextmanager
    def _changing(self, sheet_id: str, asked: Asked) -> Iterator[tuple[Sheet, tuple[Content, Found] | None]]:
        """The sheet, locked, and what it holds; None where the request of this key has done its work already.

        What fails takes all back. Raises Stale unless the request is based on what is there.
        """
        try:
            sheet = self._locked(sheet_id, asked)
            is_done = rev_after(sheet, asked.key) is not None
            if is_done:
                db.session.rollback()
            yield sheet, None if is_done else self._current(sheet, asked)
        except Exception:
            db.session.rollback()
            raise

    def _locked(self, sheet_id: str, asked: Asked) -> Sheet:
        """The sheet, locked. After a crash it is waited for the tokens that the person has seen and that were not stored:
        they are written again."""
        if asked.seen and find_sheet(sheet_id).owner == asked.owner and self._waiting.acquire(blocking=False):
            try:
                self._wait_for(sheet_id, asked.seen)
            finally:
                self._waiting.release()
        return locked(sheet_id, asked.owner)

    def _wait_for(self, sheet_id: str, seen: int) -> None:
        """Return once so many tokens of the run that is being written are there, or PATIENCE is over."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            content = content_of(find_sheet(sheet_id))
            found = self.sources.read(content.spans)
            writing = found.growing(content.open)
            if not writing or seen <= len(found(writing.run, writing.sample).tokens):
                return
            db.session.rollback()
            time.sleep(LOOK)

    def _typed(self, content: Content, edits: Edits, found: Found, seen: int | None) -> Content:
        after = edited(content, edits, found, seen)
        if any(put for _, _, put in edits):
            self._check_size(text_of(pieces_of(after.spans, found)), "text")
        return after

    def _check_size(self, text: str, field: str) -> None:
        size, limit = len(text.encode("utf-8", "replace")), self._runs.max_prompt
        if size > limit:
            raise Refusal(
                "{name} may have at most {limit:,} bytes, not {size:,}.", field, name=field, limit=limit, size=size
            )

    def _current(self, sheet: Sheet, asked: Asked) -> tuple[Content, Found]:
        """What a locked sheet holds; raises Stale unless the request is based on it."""
        content = content_of(sheet)
        found = self.sources.read(content.spans, *content.aside)
        writing = found.growing(content.open)
        based = asked.rev if asked.behind is None else rev_after(sheet, asked.behind)
        if based != sheet.rev or (writing and (asked.seen or 0) > len(found(writing.run, writing.sample).tokens)):
            rev = sheet.rev
            db.session.rollback()
            raise stale(rev)
        return content, found

    def _change(
        self, sheet_id: str, asked: Asked, make: Callable[[Content, Found, int | None], Content], keep: bool = False
    ) -> Sheet:
        """Change a sheet; unless the change can `keep` a run that is being written, it ends at what was seen of it."""
        with self._changing(sheet_id, asked) as (sheet, now):
            if now is not None:
                before, found = now
                seen = (asked.seen or 0) if found.growing(before.open) else None
                after = make(before if keep else replace(before, spans=closed(before, seen)), found, seen)
                changed(sheet, before, after)
                note_key(sheet, asked.key)
                self._commit(sheet, before, after)
        return sheet

    def _commit(self, sheet: Sheet, before: Content, after: Content) -> None:
        """Commit a change, end the run whose stretch it closed or took out, and tell the readers."""
        sheet_id, ended = sheet.id, before.open if after.open != before.open else None
        db.session.commit()
        run = get_run(ended.run) if ended else None
        if run is not None and run.state == RunState.WRITING:
            self._runs.stop(run)
        self._told(sheet_id)

    def _told(self, sheet_id: str) -> Sheet:
        """The sheet as it is stored now; its readers are told."""
        sheet = find_sheet(sheet_id)
        self._desks.tell(sheet_id, News(sheet.rev, sheet.shown_rev, sheet.run_id))
        return sheet
