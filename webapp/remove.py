"""Runs that go: deleted by their owner, or past the time that this server keeps them. Nothing but a mark is left."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, text
from sqlalchemy.orm import load_only

from webapp.database import Block, Gone, Run, Sample, Watch, db

EXPIRED = 100  # runs removed in one transaction


def remove(run: Run, reason: str) -> None:
    """Delete a run with all its tokens; its children keep theirs. Does not commit."""
    db.session.merge(Gone(id=run.id, reason=reason, parent_id=run.parent_id))
    for table in (Block, Sample, Watch):
        db.session.execute(
            delete(table).where(table.run_id == run.id), execution_options={"synchronize_session": False}
        )
    db.session.execute(delete(Run).where(Run.id == run.id), execution_options={"synchronize_session": False})


def scrub() -> None:
    """Take deleted text out of SQLite's log of changes too, as far as no reader needs it at this moment."""
    if db.engine.dialect.name == "sqlite":
        db.session.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def delete_run(run: Run) -> None:
    """Its owner wants it gone: at once and for real. A server that writes it notices at its next saving."""
    remove(run, "deleted")
    db.session.commit()
    scrub()


def expire(live) -> None:
    """Remove finished runs that are older than the setting allows."""
    days = live.settings["RUBRIC_KEEP_DAYS"]
    if not days:
        return
    limit = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    old = select(Run).where(Run.created < limit, Run.state == "done").options(load_only(Run.id, Run.parent_id))
    while runs := db.session.scalars(old.limit(EXPIRED)).all():
        for run in runs:
            remove(run, "expired")
        db.session.commit()
    scrub()
