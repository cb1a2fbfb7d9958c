"""Who a visitor is: a random name in a signed cookie, and no account."""

import hashlib
import hmac
import secrets
from pathlib import Path

from flask import current_app, session

from generate import Refusal, write_secret


def secret_key(instance: Path) -> bytes:
    """The key that signs cookies: made once, kept in the instance folder, readable by its owner alone."""
    file = instance / "secret_key"
    if not file.exists() or not file.stat().st_size:
        write_secret(file, secrets.token_hex(32).encode())
    return file.read_bytes()


def keyed_hash(words: bytes) -> str:
    """The hash of some words, 64 hex digits, which nobody can make without this server's secret."""
    key = current_app.config["SECRET_KEY"]
    return hmac.new(key.encode() if isinstance(key, str) else key, words, hashlib.sha256).hexdigest()


def visitor() -> str | None:
    """The visitor's name, if they have one yet."""
    return session.get("owner")


def require_owner(owner: str, refusal: Refusal) -> None:
    """Raise `refusal` unless the visitor is a run's owner."""
    if owner != visitor():
        raise refusal


def make_visitor() -> str:
    """The visitor's name; a new one for who has none."""
    session.permanent = True
    session["owner"] = session.get("owner") or secrets.token_hex(16)  # set anew, so that its year begins again
    return session["owner"]
