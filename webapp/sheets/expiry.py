"""Sheets that go because nobody changed them for as long as this server keeps anything."""

from datetime import timedelta

from sqlalchemy import select, update

from generate import RunState
from webapp.runs.lease import CHANGE
from webapp.runs.removal import EXPIRED, Removal
from webapp.runs.tables import Run, db
from webapp.sheets.store import remove_sheet
from webapp.sheets.tables import Sheet, now


def expire_sheets(removal: Removal, keep_days: float) -> None:
    """Remove some sheets that were not changed for `keep_days` (0: none is too old), unless a run is writing in one.

    Their runs are no younger and go by their own age.
    """
    if not keep_days:
        return
    writing = select(Run.id).where(Run.sheet_id == Sheet.id, Run.state != RunState.DONE).correlate(Sheet).exists()
    old = (Sheet.changed < now() - timedelta(days=keep_days)) & ~writing
    for sheet_id in db.session.scalars(select(Sheet.id).where(old).limit(EXPIRED)).all():
        # unless somebody was quicker, and goes on with it
        lock = update(Sheet).where(Sheet.id == sheet_id, old).values(rev=Sheet.rev)
        if db.session.execute(lock, execution_options=CHANGE).rowcount:
            remove_sheet(db.session.get(Sheet, sheet_id))
            removal.scrubbed = False
        db.session.commit()
