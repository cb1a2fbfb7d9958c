"""Who may not write for a time: addresses, each by its keyed hash, and keys of the API."""

from datetime import datetime, timedelta

from flask import Flask, g, request
from sqlalchemy import delete, select, update

from generate import N_, Refusal
from webapp.http.addresses import asking
from webapp.http.operator import is_operator
from webapp.moderation.tables import BlockedAddress
from webapp.runs.lease import CHANGE
from webapp.runs.moments import minute, now
from webapp.runs.tables import Run, asked_from, db

KEPT = timedelta(days=7)  # that the hash of an address stands beside a run
SPANS = {
    "1": N_("a day"),
    "7": N_("a week"),
    "30": N_("thirty days"),
    "365": N_("a year"),
}  # that somebody can be blocked for
STAY_OPEN = {"run.stop", "my_runs.delete", "sheet.stop", "sheet.delete"}  # what ends something of one's own
READING = ("GET", "HEAD", "OPTIONS")


class Blocked(Refusal):
    """This one may not write now. `status` is what HTTP calls it."""

    status = 403


def register(app: Flask) -> None:
    """Note where each request comes from that may store something, and refuse those of blocked addresses."""
    app.before_request(refuse_the_blocked)


def refuse_the_blocked() -> None:
    """Raise Blocked for a request that is not for reading alone; the operator is never kept out."""
    if request.method in READING:
        return
    g.address = asking()
    asked_from(g.address)
    if g.address is None or request.endpoint in STAY_OPEN or is_operator():
        return
    until = blocked_until(g.address)
    db.session.rollback()  # PostgreSQL ends a transaction that waits while a long form comes in
    if until is not None:
        raise Blocked("Nothing can be written from this network address until {until} UTC.", until=minute(until))


def blocked_until(address: str) -> datetime | None:
    """When a block ends that is in force now."""
    which = (BlockedAddress.address == address) & (BlockedAddress.until > now())
    return db.session.scalar(select(BlockedAddress.until).where(which))


def span_of(days: str) -> timedelta:
    """For how long somebody is blocked, from the form's field; raises Refusal for what it does not offer."""
    if days not in SPANS:
        raise Refusal("days must be one of {known}, not {given!r}.", "days", known=", ".join(SPANS), given=days[:20])
    return timedelta(days=int(days))


def block(address: str, span: timedelta) -> None:
    """Let nothing be written from an address, by its keyed hash; commits."""
    db.session.merge(BlockedAddress(address=address, created=now(), until=now() + span))
    db.session.commit()


def lift(address: str) -> None:
    """Let an address write again; commits."""
    db.session.execute(delete(BlockedAddress).where(BlockedAddress.address == address), execution_options=CHANGE)
    db.session.commit()


def blocked() -> list[BlockedAddress]:
    """The addresses that may not write now, the newest block first."""
    in_force = select(BlockedAddress).where(BlockedAddress.until > now())
    return list(db.session.scalars(in_force.order_by(BlockedAddress.created.desc())))


def forget_addresses() -> bool:
    """Erase the hashes beside runs whose time is over, and blocks that are; whether there were any. Commits."""
    old = Run.address.is_not(None) & (Run.created < now() - KEPT)
    beside = db.session.execute(update(Run).where(old).values(address=None), execution_options=CHANGE).rowcount
    over = delete(BlockedAddress).where(BlockedAddress.until <= now())
    ended = db.session.execute(over, execution_options=CHANGE).rowcount
    db.session.commit()
    return bool(beside or ended)
