"""Who writes an unfinished run: the server that holds its lease, renewed while it lives.

Whoever stores anything of a run checks in the same transaction that the lease is still its own, so two servers never
write one run, whatever their clocks say; the clocks only decide when a silent server's runs may be taken over.
"""

import time
from collections.abc import Iterable

from sqlalchemy import select, update

from webapp.database import Run, db

LEASE = 4.0  # seconds; renewed with every saving


def renew(server: str, ids: Iterable[str]) -> dict[str, str | None]:
    """Renew the leases of those runs that the server still holds; return them with their `stop_asked`.

    Locks their rows until the transaction ends.
    """
    held = (Run.holder == server) & (Run.state == "writing") & Run.id.in_(list(ids))
    until = time.time() + LEASE
    db.session.execute(
        update(Run).where(held).values(lease_until=until), execution_options={"synchronize_session": False}
    )
    return {row.id: row.stop_asked for row in db.session.execute(select(Run.id, Run.stop_asked).where(held))}


def take(server: str, run_id: str) -> bool:
    """Take over an unfinished run whose lease has run out; False when another was quicker. Does not commit."""
    free = (Run.id == run_id) & (Run.state == "writing") & (Run.lease_until < time.time())
    change = update(Run).where(free).values(holder=server, lease_until=time.time() + LEASE)
    return db.session.execute(change, execution_options={"synchronize_session": False}).rowcount == 1


def give_up(server: str, ids: Iterable[str]) -> None:
    """Let others take over at once. Does not commit."""
    held = (Run.holder == server) & Run.id.in_(list(ids))
    change = update(Run).where(held).values(holder=None, lease_until=time.time())
    db.session.execute(change, execution_options={"synchronize_session": False})
