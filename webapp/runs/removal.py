"""Runs that go: deleted by their owner or by whoever runs the server, or past the time that this server keeps them. Nothing but a mark is left."""

from collections.abc import Callable, Iterable
from datetime import timedelta

from sqlalchemy import delete, func, select, text, update

from generate import RunState
from webapp.runs.kinds import NOBODY, GoneReason, Relation
from webapp.runs.lease import CHANGE
from webapp.runs.moments import now
from webapp.runs.tables import BUSY, Block, Gone, Run, Sample, Watch, db

EXPIRED = 200  # runs removed in one round


def remove(run_id: str, parent_id: str | None, reason: GoneReason) -> bool:
    """Delete a run with all its tokens; its children keep theirs. False: it was gone already. Does not commit.

    The run's row comes first: whoever stores a part of it holds that row, and then finds the lease taken away.
    """
    lock = update(Run).where(Run.id == run_id).values(holder=None, lease_until=0)
    if db.session.execute(lock, execution_options=CHANGE).rowcount == 0:
        return False
    for table in (Block, Sample, Watch):
        db.session.execute(delete(table).where(table.run_id == run_id), execution_options=CHANGE)
    db.session.execute(delete(Run).where(Run.id == run_id), execution_options=CHANGE)
    db.session.add(Gone(id=run_id, reason=reason, parent_id=parent_id))
    return True


class Removal:
    """Deletes what its owner wants gone, and what is older than `keep_days` (0: nothing is too old).

    `leaving` is told of each run that goes, by its id and within the same transaction.
    """

    def __init__(self, keep_days: float, leaving: Callable[[str], None]):
        self._keep_days, self._leaving = keep_days, leaving
        self.scrubbed = True  # no deleted text is left in a log of the database
        self._gone: tuple | None = None  # what is gone and what is hidden, as far as this server has noticed

    def delete(self, runs: Iterable[tuple[str, str | None]], reason: GoneReason) -> bool:
        """Somebody wants some gone, each an id and its parent's: at once, for real, and all or none, with whatever the caller
        has changed. A server that writes one notices at its next saving. False: all were gone already.
        """
        found = [self._take_out(*run, reason) for run in runs]
        db.session.commit()
        self.scrubbed = False
        self.scrub()
        return any(found)

    def _take_out(self, run_id: str, parent_id: str | None, reason: GoneReason) -> bool:
        self._leaving(run_id)
        found = remove(run_id, parent_id, reason)
        for score in db.session.scalars(
            select(Run.id).where(Run.parent_id == run_id, Run.relation == Relation.SCORE)
        ).all():
            remove(score, run_id, reason)  # it is the same text, read by another model
        return found

    def notice(self) -> bool:
        """Whether runs have gone or were hidden since the last look, whichever server did that."""
        gone = select(func.count()).select_from(Gone)
        hidden = select(func.count(Run.hidden), func.max(Run.hidden)).where(Run.hidden.is_not(None))
        before, self._gone = self._gone, (db.session.scalar(gone), *db.session.execute(hidden).one())
        return before not in (None, self._gone)

    def scrub(self) -> None:
        """Take deleted text out of SQLite's log of changes too; while somebody reads there, it is tried again later."""
        if self.scrubbed:
            return
        if db.engine.dialect.name == "sqlite":
            with db.engine.connect() as connection:
                connection.execute(text("PRAGMA busy_timeout=50"))
                try:
                    busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).first()[0]
                finally:
                    connection.execute(text(f"PRAGMA busy_timeout={BUSY}"))
            self.scrubbed = not busy
        else:
            self.scrubbed = True

    def expire(self) -> None:
        """Remove some finished runs that are older than the setting allows; those of a sheet stay as long as it does, and
        nobody's, which the server wrote itself, stay."""
        if not self._keep_days:
            return
        limit = now() - timedelta(days=self._keep_days)
        old = (Run.created < limit) & (Run.state == RunState.DONE) & Run.sheet_id.is_(None) & (Run.owner != NOBODY)
        for run in db.session.execute(select(Run.id, Run.parent_id).where(old).limit(EXPIRED)).all():
            self._leaving(run.id)
            remove(run.id, run.parent_id, GoneReason.EXPIRED)
            self.scrubbed = False
        db.session.commit()
