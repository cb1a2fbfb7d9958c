"""Sheets in the database: found, changed one request after the other, and removed.

Whoever changes a sheet locks its row first. A request names the revision that it is based on, and a key: the same
request that comes again is not done again.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

from sqlalchemy import delete, insert, select, update

from generate import Refusal
from webapp.runs.lease import CHANGE
from webapp.runs.tables import Run, db
from webapp.sheets.content import Content, aside_from_json, aside_to_json, runs_of, tries_from_json, tries_to_json
from webapp.sheets.history import change_between, done_again, taken_back
from webapp.sheets.spans import spans_from_json, spans_to_json
from webapp.sheets.tables import Change, Reference, Sheet, now

KEYS = 20  # requests that are remembered of a sheet
SIDES = ("removed", "inserted")  # of a stored change


class UnknownSheet(Refusal):
    """There is no such sheet. `status` is what HTTP calls it."""

    status = 404


class HiddenSheet(Refusal):
    """It is there, and nobody but the operator sees it. `status` is what HTTP calls it."""

    status = 410


class Foreign(Refusal):
    """It is another visitor's. `status` is what HTTP calls it."""

    status = 403


class Stale(Refusal):
    """The sheet was changed since; its problem's `rev` is where it is now. `status` is what HTTP calls it."""

    status = 409


def stale(rev: int) -> Stale:
    """The refusal of a request that is based on another revision than `rev`."""
    return Stale("The sheet was changed elsewhere meanwhile; it is at revision {rev}.", "rev", rev=rev)


def any_sheet(sheet_id: str) -> Sheet | None:
    """A stored sheet, hidden or not, or None."""
    return db.session.get(Sheet, sheet_id) if len(sheet_id) <= 24 and "\0" not in sheet_id else None


def find_sheet(sheet_id: str) -> Sheet:
    """A stored sheet; raises UnknownSheet or HiddenSheet."""
    found = any_sheet(sheet_id)
    if found is None:
        raise UnknownSheet("There is no such sheet here. Perhaps the link lost a letter on its way, or it was deleted.")
    require_shown(found)
    return found


def require_shown(sheet: Sheet) -> None:
    """Raise HiddenSheet for one that is hidden."""
    if sheet.hidden:
        raise HiddenSheet("This sheet is gone: whoever runs this server has taken it down.")


def content_of(sheet: Sheet) -> Content:
    """What a sheet holds now."""
    aside, tries = aside_from_json(sheet.aside), tries_from_json(sheet.tries)
    return Content(spans_from_json(sheet.spans), aside, tries, sheet.current, sheet.memory)


def put(sheet: Sheet, content: Content) -> None:
    """Note in a sheet's row what it holds now. Does not commit."""
    sheet.spans, sheet.aside = spans_to_json(content.spans), aside_to_json(content.aside)
    sheet.tries, sheet.current = tries_to_json(content.tries), content.current
    sheet.memory = content.memory


def sheet_made_by(key: str) -> str:
    """The id of the sheet that a request makes. Whoever knows the sheet's address does not know the key."""
    return urlsafe_b64encode(sha256(key.encode()).digest()[:12]).decode()


def add_sheet(sheet_id: str, owner: str, content: Content) -> Sheet:
    """A new sheet, which has no history yet. Does not commit."""
    sheet = Sheet(id=sheet_id, owner=owner, rev=0, pointer=0, changes=0, shown_rev=0, keys=[])
    put(sheet, content)
    sheet.shown = []
    db.session.add(sheet)
    db.session.flush()
    refer(sheet.id, runs_of(content))
    return sheet


def locked(sheet_id: str, owner: str | None) -> Sheet:
    """A sheet that nobody else changes until the transaction ends; raises UnknownSheet or HiddenSheet, or
    Foreign unless it is the owner's."""
    find_sheet(sheet_id)
    sheet = hold(sheet_id)
    if sheet is None or sheet.hidden:  # since a moment ago
        db.session.rollback()
        return find_sheet(sheet_id)
    if sheet.owner != owner:
        db.session.rollback()
        raise Foreign("This sheet is another visitor's; what you write on it becomes a sheet of your own.")
    return sheet


def hold(sheet_id: str) -> Sheet | None:
    """A sheet as it is now, which nobody else changes until the transaction ends; None when there is none.

    What locks is a change, as SQLite knows no other way.
    """
    change = update(Sheet).where(Sheet.id == sheet_id).values(rev=Sheet.rev)
    db.session.execute(change, execution_options=CHANGE)
    return db.session.get(Sheet, sheet_id, populate_existing=True)


def hold_copies(sheet_id: str) -> None:
    """Hold a sheet and all that refer to its runs, in one order by all who do this, as what is removed with it changes them."""
    runs = select(Run.id).where(Run.sheet_id == sheet_id)
    others = db.session.scalars(select(Reference.sheet_id).where(Reference.run_id.in_(runs)))
    for one in sorted({sheet_id, *others}):
        hold(one)


def note_key(sheet: Sheet, key: str) -> None:
    """Remember that a request was done, and where it led. Does not commit."""
    sheet.keys = [*sheet.keys, [key, sheet.rev]][-KEYS:]


def rev_after(sheet: Sheet, key: str) -> int | None:
    """Where a request has led that is remembered as done; None for any other."""
    return dict(sheet.keys).get(key)


def changed(sheet: Sheet, before: Content, after: Content) -> None:
    """Add a change to a sheet's history, where what was undone ends. Does not commit."""
    if after == before:
        return
    if sheet.changes > sheet.pointer:
        undone = (Change.sheet_id == sheet.id) & (Change.n > sheet.pointer)
        db.session.execute(delete(Change).where(undone), execution_options=CHANGE)
    sheet.pointer += 1
    sheet.changes = sheet.pointer
    db.session.add(Change(sheet_id=sheet.id, n=sheet.pointer, change=change_between(before, after)))
    renewed(sheet, after)
    refer(sheet.id, runs_of(after) - runs_of(before))


def moved(sheet: Sheet, content: Content, by: int) -> Content:
    """What a sheet holds one change earlier (`by` -1) or later (1); raises Refusal when there is none. Does not commit."""
    n = sheet.pointer + (1 if by > 0 else 0)
    if not 1 <= n <= sheet.changes:
        raise Refusal("There is nothing to undo." if by < 0 else "There is nothing to do again.")
    change = db.session.get(Change, (sheet.id, n)).change
    after = done_again(content, change) if by > 0 else taken_back(content, change)
    sheet.pointer += by
    renewed(sheet, after)
    return after


def renewed(sheet: Sheet, content: Content) -> None:
    """Note another content, and that it is another one. Does not commit."""
    put(sheet, content)
    sheet.rev += 1
    sheet.changed, sheet.words = now(), None


def refer(sheet_id: str, runs: Iterable[str]) -> None:
    """Note that a sheet refers to some runs. Does not commit."""
    known = set(db.session.scalars(select(Reference.run_id).where(Reference.sheet_id == sheet_id)))
    if new := [{"sheet_id": sheet_id, "run_id": run} for run in runs if run not in known]:
        db.session.execute(insert(Reference), new)


def remove_sheet(sheet: Sheet) -> None:
    """Delete a sheet with its history; its runs are then like any other. Does not commit."""
    db.session.execute(update(Run).where(Run.sheet_id == sheet.id).values(sheet_id=None), execution_options=CHANGE)
    for table in (Change, Reference):
        db.session.execute(delete(table).where(table.sheet_id == sheet.id), execution_options=CHANGE)
    db.session.execute(delete(Sheet).where(Sheet.id == sheet.id), execution_options=CHANGE)


def rewrite(sheet_id: str, spans: Callable[[list], list]) -> None:
    """Put other spans in the place of all spans that are stored of a sheet, in JSON. Does not commit."""
    sheet = hold(sheet_id)
    if sheet is None:
        return
    sheet.spans, sheet.shown = spans(sheet.spans), spans(sheet.shown)
    sheet.aside, sheet.tries = [spans(piece) for piece in sheet.aside], [in_try(one, spans) for one in sheet.tries]
    sheet.rev, sheet.shown_rev = sheet.rev + 1, sheet.shown_rev + 1
    for row in db.session.scalars(select(Change).where(Change.sheet_id == sheet_id)):
        row.change = in_change(row.change, spans)


def in_try(stored: list, spans: Callable[[list], list]) -> list:
    """A stored try with other spans."""
    run, anchor, lead, own, aside = stored
    return [run, anchor, lead, spans(own), [spans(piece) for piece in aside]]


def in_change(stored: dict, spans: Callable[[list], list]) -> dict:
    """A stored change with other spans."""
    found = stored | {side: spans(stored[side]) for side in SIDES}
    if "aside" in stored:
        found["aside"] = stored["aside"] | {side: [spans(one) for one in stored["aside"][side]] for side in SIDES}
    if "tries" in stored:
        found["tries"] = stored["tries"] | {
            side: [in_try(one, spans) for one in stored["tries"][side]] for side in SIDES
        }
    return found
