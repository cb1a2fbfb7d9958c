"""Who writes an unfinished run: the server that holds its lease, renewed while it lives.

Whoever stores anything of a run checks in the same transaction that the lease is still its own, so two servers never
write one run, whatever their clocks say; clocks only decide when a silent server's runs may be taken over. `now` is
seconds since 1970 by the database's clock (`Clock.now`).
"""

from collections.abc import Iterable

from sqlalchemy import update

from generate import RunState
from webapp.runs.tables import Run, db

LEASE = 5.0  # seconds; renewed with every saving, and longer than SQLite may make one wait
CHANGE = {"synchronize_session": False}


def renew(server: str, ids: Iterable[str], now: float) -> dict[str, str | None]:
    """Renew the leases of those runs that the server still holds; return them with their `stop_asked`.

    Locks their rows until the transaction ends.
    """
    held = (Run.holder == server) & (Run.state == RunState.WRITING) & Run.id.in_(list(ids))
    renewed = update(Run).where(held).values(lease_until=now + LEASE).returning(Run.id, Run.stop_asked)
    return {row.id: row.stop_asked for row in db.session.execute(renewed, execution_options=CHANGE)}


def take(server: str, run_id: str, now: float) -> bool:
    """Take over an unfinished run whose lease has run out; False when another was quicker. Does not commit."""
    free = (Run.id == run_id) & (Run.state == RunState.WRITING) & (Run.lease_until < now)
    change = update(Run).where(free).values(holder=server, lease_until=now + LEASE)
    return db.session.execute(change, execution_options=CHANGE).rowcount == 1


def give_up(server: str, ids: Iterable[str], now: float) -> None:
    """Let others take over at once. Does not commit."""
    held = (Run.holder == server) & Run.id.in_(list(ids))
    db.session.execute(update(Run).where(held).values(holder=None, lease_until=now), execution_options=CHANGE)
