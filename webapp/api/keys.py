"""Keys: made, listed and taken back at the terminal, blocked by the operator. A key is shown once; what is stored is its hash."""

import hashlib
import re
import secrets
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from generate import Refusal
from webapp.api.errors import KeyBlocked
from webapp.api.tables import ApiKey
from webapp.runs.moments import minute, now
from webapp.runs.tables import db

PREFIX = "rubric-"
NAME = re.compile(r"[A-Za-z0-9_.@-]{1,60}", re.ASCII)


def hash_of(key: str) -> str:
    """What is stored of a key; it is random and long, so nobody finds it by trying."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_key(name: str) -> str:
    """Make a key of this name; returns it. Raises Refusal when the name is taken, or none."""
    if not NAME.fullmatch(name):
        raise Refusal("A key's name has 1 to 60 letters, digits, - _ . or @; {name!r} has others.", name=name[:60])
    key = PREFIX + secrets.token_urlsafe(32)
    db.session.add(ApiKey(hash=hash_of(key), name=name, owner=secrets.token_hex(16)))
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise Refusal(
            "There is a key called {name!r} already; revoke it first, or take another name.", name=name
        ) from None
    return key


def list_keys() -> list[ApiKey]:
    """All keys, the oldest first."""
    return list(db.session.scalars(select(ApiKey).order_by(ApiKey.created, ApiKey.name)))


def revoke_key(name: str) -> None:
    """Let a key be good no longer; raises Refusal when there is none of this name."""
    found = db.session.execute(delete(ApiKey).where(ApiKey.name == name))
    db.session.commit()
    if not found.rowcount:
        raise no_key(name)


def block_key(name: str, span: timedelta | None) -> None:
    """Let a key be good for nothing for a time, or again from now on (None); raises Refusal when there is none of this name."""
    until = None if span is None else now() + span
    found = db.session.execute(update(ApiKey).where(ApiKey.name == name).values(blocked_until=until))
    db.session.commit()
    if not found.rowcount:
        raise no_key(name)


def no_key(name: str) -> Refusal:
    """The refusal for a name that no key has."""
    return Refusal("There is no key called {name!r}.", name=name[:60])


def key_of(owner: str) -> ApiKey | None:
    """The key with which the runs of an owner were started, if it was one, and is still there."""
    return db.session.scalar(select(ApiKey).where(ApiKey.owner == owner))


def owner_of(key: str) -> str | None:
    """Whose runs are started with a key; None for one that is not good. Raises KeyBlocked for one that is not for now."""
    found = db.session.execute(select(ApiKey.owner, ApiKey.blocked_until).where(ApiKey.hash == hash_of(key))).first()
    if found and found.blocked_until and found.blocked_until > now():
        raise KeyBlocked("This key is blocked until {until} UTC.", until=minute(found.blocked_until))
    return found and found.owner
