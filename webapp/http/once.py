"""One press, one run: a form that is sent twice, by a double click or again after a lost answer, is done once.

Each form holds a nonce. The second time it comes, with the same contents, it is led to where the first time led; so is
one that comes while the first is still being worked on. Requests without a nonce are done as often as they come.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from functools import wraps
from typing import IO, Any, Protocol

from flask import Flask, make_response, redirect, request, session
from markupsafe import Markup

from generate import Refusal
from webapp.http.visitors import make_visitor, visitor

CHUNK = 2**20  # bytes
NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


class Presses(Protocol):
    """Who remembers; see `webapp.runs.presses`."""

    def claim(self, name: str, owner: str, is_new: bool) -> Any:
        """Take a press; returns something with the `owner`, `address` and `kept` of `webapp.runs.presses.Claim`."""

    def lead(self, name: str, address: str) -> None:
        """Remember where a press led."""

    def release(self, name: str) -> None:
        """Let a press that came to nothing be done again."""


def register(app: Flask, presses: Presses) -> None:
    """Watch over every view that takes a form; call when all are there, and limits are around them."""
    for rule in app.url_map.iter_rules():
        if "POST" in rule.methods:
            app.view_functions[rule.endpoint] = once(presses, app.view_functions[rule.endpoint])
    app.add_template_global(nonce)


def nonce() -> Markup:
    """The hidden field of a form that makes or removes something. Browsers shall not fill in an older one."""
    return Markup('<input type="hidden" name="nonce" value="{}" autocomplete="off">').format(secrets.token_urlsafe(16))


def press_name(nonce: str) -> str:
    """What a press is known by: another address or other contents make it another one."""
    fields = sorted(item for item in request.form.items(multi=True) if item[0] != "nonce")
    files = [[field, file.filename, digest(file.stream)] for field, file in request.files.items(multi=True)]
    return hashlib.sha256(json.dumps([nonce, request.path, fields, files]).encode()).hexdigest()


def digest(stream: IO[bytes]) -> str:
    """What a file holds, in short; it can be read from its beginning again."""
    found = hashlib.sha256()
    while piece := stream.read(CHUNK):
        found.update(piece)
    stream.seek(0)
    return found.hexdigest()


def once(presses: Presses, view: Callable) -> Callable:
    """A view that is done once for each press; what it refuses may be pressed again."""

    @wraps(view)
    def pressed(*args, **kwargs):
        given = request.form.get("nonce")
        if not given:
            return view(*args, **kwargs)
        if not NONCE.fullmatch(given):
            raise Refusal("nonce must be 16 to 64 letters, digits, - or _, not {text!r}.", "nonce", text=given[:40])
        name, is_new = press_name(given), visitor() is None
        claim = presses.claim(name, make_visitor(), is_new)
        session["owner"] = claim.owner
        if not claim.kept:
            return view(*args, **kwargs)
        if claim.address is not None:
            return redirect(claim.address, 303)
        address = None
        try:
            answer = make_response(view(*args, **kwargs))
            address = answer.headers.get("Location") or answer.headers.get("Content-Location")
        finally:
            if address is None:
                presses.release(name)
            else:
                presses.lead(name, address)
        return answer

    return pressed
