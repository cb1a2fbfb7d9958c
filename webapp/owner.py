"""Who a visitor is: a random name in a signed cookie, and no account."""

import os
import secrets
from pathlib import Path

from flask import session


def secret_key(instance: Path) -> bytes:
    """The key that signs cookies: made once, kept in the instance folder, readable by its owner alone."""
    file = instance / "secret_key"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_bytes()
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secrets.token_hex(32).encode())
    return file.read_bytes()


def visitor() -> str | None:
    """The visitor's name, if they have one yet."""
    return session.get("owner")


def make_visitor() -> str:
    """The visitor's name; a new one for who has none."""
    if "owner" not in session:
        session.permanent = True
        session["owner"] = secrets.token_hex(16)
    return session["owner"]
