"""What whoever runs the server takes down: hidden, which can be taken back, or deleted for good.

A sheet and its versions are one text and go together, whichever of them is named; so does what another model read of it.
Readers on all servers leave as soon as those look at the database again.
"""

from sqlalchemy import or_, select, update

from generate import FinishReason, RunState, Withdrawal
from webapp.runs.kinds import GoneReason, Relation
from webapp.runs.lease import CHANGE
from webapp.runs.moments import now
from webapp.runs.service import Service
from webapp.runs.tables import Run, db
from webapp.sheets.service import Sheets
from webapp.sheets.store import hold
from webapp.sheets.tables import Sheet

UNWRITTEN = {
    "holder": None,
    "lease_until": 0,
    "stop_asked": FinishReason.CANCELLED,
}  # of a run that nobody shall go on with


class TakingDown:
    """Done on one server; all needs an app context, and commits."""

    def __init__(self, runs: Service, sheets: Sheets):
        self._runs, self._sheets = runs, sheets

    def hide(self, thing: Run | Sheet) -> None:
        """Let nobody but the operator see it; a run that is being written ends there."""
        sheet, when = sheet_of(thing), now()
        if sheet is not None:
            sheet.hidden = when = sheet.hidden or when
        ids = db.session.scalars(select(Run.id).where(versions_of(thing, sheet), Run.hidden.is_(None))).all()
        ids += db.session.scalars(select(Run.id).where(read_of(ids), Run.hidden.is_(None))).all()
        hidden = update(Run).where(Run.id.in_(ids))
        db.session.execute(hidden.values(hidden=when), execution_options=CHANGE)
        db.session.execute(hidden.where(Run.state == RunState.WRITING).values(UNWRITTEN), execution_options=CHANGE)
        name = sheet and sheet.id
        db.session.commit()
        for run_id in ids:
            self._runs.withdraw(run_id, Withdrawal.TAKEN_DOWN)
        if name:
            self._sheets.hidden(name)

    def show(self, thing: Run | Sheet) -> None:
        """Let everybody see it again who has its link, with all that was hidden together with it."""
        sheet = sheet_of(thing)
        when = sheet.hidden if sheet is not None else thing.hidden
        if when is None:
            db.session.rollback()
            return
        ids = db.session.scalars(select(Run.id).where(versions_of(thing, sheet), Run.hidden == when)).all()
        ids += db.session.scalars(select(Run.id).where(read_of(ids), Run.hidden == when)).all()
        db.session.execute(update(Run).where(Run.id.in_(ids)).values(hidden=None), execution_options=CHANGE)
        if sheet is not None:
            sheet.hidden = None
        db.session.commit()

    def delete(self, thing: Run | Sheet) -> None:
        """Remove it for good."""
        sheet = sheet_of(thing)
        if sheet is not None:
            self._sheets.remove(sheet, GoneReason.TAKEN_DOWN)
        elif isinstance(thing, Run):
            self._runs.delete(thing, GoneReason.TAKEN_DOWN)


def sheet_of(thing: Run | Sheet) -> Sheet | None:
    """The sheet itself, or the one that a run is a version of, if it is still there; nobody writes in it meanwhile."""
    name = thing.id if isinstance(thing, Sheet) else thing.sheet_id
    return hold(name) if name else None


def versions_of(thing: Run | Sheet, sheet: Sheet | None):
    """The condition that a run is one of a sheet's, or `thing` itself."""
    return Run.id == thing.id if sheet is None else or_(Run.sheet_id == sheet.id, Run.id == thing.id)


def read_of(ids: list[str]):
    """The condition that a run is the text of one of some, read by another model."""
    return Run.parent_id.in_(ids) & (Run.relation == Relation.SCORE)
