"""A visitor's sheets and runs by their words, in one list; and what makes sheets searchable."""

from datetime import timedelta

from sqlalchemy import ColumnElement, Select, Text, cast, func, literal, or_, select, union_all, update

from webapp.runs.kinds import Relation
from webapp.runs.lease import CHANGE
from webapp.runs.search import APART, INDEXED, runs_of
from webapp.runs.tables import Run, db
from webapp.sheets.content import Content
from webapp.sheets.pieces import pieces_of, text_of
from webapp.sheets.sources import Sources
from webapp.sheets.store import content_of
from webapp.sheets.tables import Sheet, now

REST = timedelta(seconds=2)  # without a change, before a sheet is made searchable: nobody's typing is read every second


def sheets_of(owner: str | None, words: str = "") -> Select:
    """The sheets of an owner in which anything was ever written and that are not hidden; those that `holds` some words."""
    found = select(Sheet).where(
        Sheet.owner == owner if owner else Sheet.id.is_(None), is_used(), Sheet.hidden.is_(None)
    )
    return found.where(holds(words)) if words else found


def is_used() -> ColumnElement[bool]:
    """The condition that anything was ever written in a sheet."""
    return or_(Sheet.changes > 0, Sheet.run_id.is_not(None), cast(Sheet.spans, Text) != "[]")


def holds(words: str) -> ColumnElement[bool]:
    """The condition that a sheet holds all of some words in a row.

    They are looked for in what it holds, and in its runs: each has the text that it went on from.
    """
    its_own, there = Run.sheet_id == Sheet.id, Run.words.contains(words.lower(), autoescape=True)
    in_a_run = select(Run.id).where(its_own, there).correlate(Sheet).exists()
    return or_(Sheet.words.contains(words.lower(), autoescape=True), in_a_run)


def entries_of(owner: str | None, words: str = "") -> Select:
    """A visitor's list, the last changed first: (kind, id) of each sheet and of each run that belongs to none.

    A run that is the text of another, read by a second model, stands for nothing by itself.
    """
    alone = Run.sheet_id.is_(None) & (func.coalesce(Run.relation, "") != Relation.SCORE)
    sheets = sheets_of(owner, words).with_only_columns(literal("sheet").label("kind"), Sheet.id, Sheet.changed)
    runs = runs_of(owner, words).where(alone).with_only_columns(literal("run").label("kind"), Run.id, Run.created)
    found = union_all(sheets, runs).subquery()
    return select(found.c.kind, found.c.id).order_by(found.c.changed.desc(), found.c.id)


def counts_of(owner: str | None, words: str = "") -> dict[str, int]:
    """How many entries of each kind the list has."""
    found = entries_of(owner, words).order_by(None).subquery()
    return dict(db.session.execute(select(found.c.kind, func.count()).group_by(found.c.kind)).all())


def sheet_with(run: Run) -> str | None:
    """The id of the sheet that a run is a version of, if that is still there to be seen."""
    seen = (Sheet.id == run.sheet_id) & Sheet.hidden.is_(None)
    return run.sheet_id and db.session.scalar(select(Sheet.id).where(seen))


def index_sheets(sources: Sources) -> None:
    """Make sheets searchable: keep the text of some that have none since their last change."""
    rested = Sheet.words.is_(None) & (Sheet.changed < now() - REST)
    for sheet_id in db.session.scalars(select(Sheet.id).where(rested).limit(INDEXED)).all():
        sheet = db.session.get(Sheet, sheet_id)
        if sheet is None:
            continue
        rev = sheet.rev
        words = APART.join(texts_of(content_of(sheet), sources)).lower().replace("\0", "")
        as_it_was = (Sheet.id == sheet_id) & (Sheet.rev == rev)
        db.session.execute(update(Sheet).where(as_it_was).values(words=words), execution_options=CHANGE)
        db.session.commit()  # one by one: nobody waits for another's lock


def texts_of(content: Content, sources: Sources) -> list[str]:
    """All that a sheet holds, each text once: its own, what was set aside, and the tries that are not shown."""
    parts = list(dict.fromkeys(content.parts()))
    found = sources.read(*parts)
    return [text_of(pieces_of(spans, found)) for spans in parts]
