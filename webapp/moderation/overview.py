"""What the operator looks through: all sheets, and all runs that belong to none, whosoever they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Select, and_, func, literal, or_, select, union_all

from webapp.moderation.tables import Kind, Report
from webapp.runs.kinds import Relation
from webapp.runs.tables import Run, db
from webapp.sheets.search import holds, is_used
from webapp.sheets.tables import Sheet


class Which(StrEnum):
    """What of all that is listed."""

    ALL = "all"
    REPORTED = "reported"
    HIDDEN = "hidden"


@dataclass(frozen=True)
class Mark:
    """What an entry of the list says beside its text."""

    hidden: datetime | None
    reports: int


def found(words: str, which: Which, owner: str | None = None) -> Select:
    """(kind, id) of each entry, the last changed first: those that hold all of some words in a row, those of one owner."""
    sheets = select(literal("sheet").label("kind"), Sheet.id, Sheet.changed).where(is_used())
    alone = Run.sheet_id.is_(None) & (func.coalesce(Run.relation, "") != Relation.SCORE)
    runs = select(literal("run").label("kind"), Run.id, Run.created).where(alone)
    if words:
        sheets, runs = sheets.where(holds(words)), runs.where(Run.words.contains(words.lower(), autoescape=True))
    if owner is not None:
        sheets, runs = sheets.where(Sheet.owner == owner), runs.where(Run.owner == owner)
    if which is Which.HIDDEN:
        sheets, runs = sheets.where(Sheet.hidden.is_not(None)), runs.where(Run.hidden.is_not(None))
    if which is Which.REPORTED:
        sheets, runs = sheets.where(Sheet.id.in_(reported_sheets())), runs.where(Run.id.in_(reported(Kind.RUN)))
    both = union_all(sheets, runs).subquery()
    return select(both.c.kind, both.c.id).order_by(both.c.changed.desc(), both.c.id)


def reported(kind: Kind) -> Select:
    """The ids of what was reported of a kind."""
    return select(Report.name).where(Report.kind == kind)


def reported_sheets() -> Select:
    """The ids of sheets that were reported, themselves or one of their versions."""
    versions = select(Run.sheet_id).where(Run.sheet_id.is_not(None), Run.id.in_(reported(Kind.RUN)))
    return versions.union(reported(Kind.SHEET))


def count(query: Select) -> int:
    """How many entries a list has."""
    return db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery()))


def marks_of(entries: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
    """What is to be said beside some entries."""
    ids = {kind: [name for found, name in entries if found == kind] for kind in Kind}
    hidden = {(Kind.RUN, *row) for row in db.session.execute(select(Run.id, Run.hidden).where(Run.id.in_(ids["run"])))}
    sheets = select(Sheet.id, Sheet.hidden).where(Sheet.id.in_(ids["sheet"]))
    hidden |= {(Kind.SHEET, *row) for row in db.session.execute(sheets)}
    said = Counter()
    for kind, name, sheet_id in db.session.execute(reports_with_sheets(ids)):
        said[(Kind.SHEET, sheet_id) if kind == Kind.RUN and sheet_id else (kind, name)] += 1
    return {(str(kind), name): Mark(since, said[kind, name]) for kind, name, since in hidden}


def reports_with_sheets(ids: dict[Kind, list[str]]) -> Select:
    """(kind, id, sheet) of each report of some runs and sheets, or of a version of one of these."""
    version = and_(Report.kind == Kind.RUN, Run.id == Report.name)
    of_sheets = or_(and_(Report.kind == Kind.SHEET, Report.name.in_(ids["sheet"])), Run.sheet_id.in_(ids["sheet"]))
    of_runs = and_(Report.kind == Kind.RUN, Report.name.in_(ids["run"]))
    joined = select(Report.kind, Report.name, Run.sheet_id).select_from(Report).outerjoin(Run, version)
    return joined.where(or_(of_sheets, of_runs))


def reports_of(thing: Run | Sheet) -> list[Report]:
    """What was said of a run, or of a sheet and its versions; the oldest first."""
    if isinstance(thing, Run):
        which = and_(Report.kind == Kind.RUN, Report.name == thing.id)
    else:
        versions = select(Run.id).where(Run.sheet_id == thing.id)
        of_it = and_(Report.kind == Kind.SHEET, Report.name == thing.id)
        which = or_(of_it, and_(Report.kind == Kind.RUN, Report.name.in_(versions)))
    return list(db.session.scalars(select(Report).where(which).order_by(Report.created)))


def address_of(thing: Run | Sheet) -> str | None:
    """The keyed hash of where a run came from, or the newest run of a sheet; None where that is not known any more."""
    if isinstance(thing, Run):
        return thing.address
    newest = select(Run.address).where(Run.sheet_id == thing.id, Run.address.is_not(None))
    return db.session.scalar(newest.order_by(Run.created.desc()).limit(1))


def runs_from(address: str) -> int:
    """How many runs came from an address, as far as that is known."""
    return db.session.scalar(select(func.count()).where(Run.address == address))
