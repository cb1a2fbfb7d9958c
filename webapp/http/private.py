"""Private mode: whoever runs the server has set a password, and without it nothing is shown.

It is RUBRIC_PASSWORD, or what `rubric password` has stored as a hash in the instance folder, which counts from the next
request on. Who gives it gets a mark in their cookie, good until there is another password. The operator needs none, and
programs bring a key of the API.
"""

import hashlib
import hmac
import logging
import os
from pathlib import Path

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.security import check_password_hash, generate_password_hash

from generate import N_, Refusal, read_settings, write_secret
from webapp.http.operator import is_operator
from webapp.http.request import is_fragment, settings
from webapp.http.security import allow_frames
from webapp.http.visitors import keyed_hash

log = logging.getLogger(__name__)

FILE = "password"
UNREADABLE = ""  # no password has this for its hash
OPEN = {  # what is answered without it: the way in, what that looks like, what a machine asks
    *("private.ask", "private.enter", "operator.enter"),
    *("static", "npm", "favicon"),
    *("health.healthz", "health.readyz", "crawlers.robots"),
}
SENTENCE = N_("This page is private: open it in a window of its own and give the password.")


def register(app: Flask) -> None:
    """Guard all pages; call before anything else that answers."""
    app.before_request(require_password)
    app.add_template_global(is_private)


def secret() -> str | None:
    """What is known of the password: itself, or its hash; None where there is none. Nobody gets in by a hash that the server
    may not read."""
    if settings()["RUBRIC_PASSWORD"]:
        return settings()["RUBRIC_PASSWORD"]
    try:
        return file_in(current_app).read_text("utf-8")
    except FileNotFoundError:
        return None
    except PermissionError:
        return UNREADABLE


def file_in(app: Flask) -> Path:
    """Where the hash is, if there is one."""
    return Path(app.instance_path) / FILE


def store(app: Flask, given: str) -> None:
    """Make this the password; raises Refusal for none and for one that is too short, and OSError."""
    password = read_settings({"RUBRIC_PASSWORD": given})["RUBRIC_PASSWORD"]
    if not password:
        raise Refusal("No password was given; `rubric password --off` lets everybody in.")
    write_secret(file_in(app), generate_password_hash(password).encode())


def is_private() -> bool:
    """Whether there is a password; for templates too."""
    return secret() is not None


def is_right(given: str) -> bool:
    """Whether this is the password; how long that takes tells nothing of it."""
    known, given = secret(), given.strip()
    if known == UNREADABLE:
        log.error("%s may not be read by the server: give it to the server's user, or set another password", FILE)
    if not settings()["RUBRIC_PASSWORD"]:
        return known is not None and check_password_hash(known, given)
    hashes = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (known, given))
    return hmac.compare_digest(*hashes)


def mark(known: str) -> str:
    """What the cookie of one who gave the password holds; `known` is what is stored of that."""
    return keyed_hash(b"inside " + known.encode("utf-8", "replace"))


def let_in() -> None:
    """The visitor has given the password."""
    session.permanent = True
    session["inside"] = mark(secret() or "")


def is_inside() -> bool:
    """Whether the visitor may see anything: there is no password, they gave it, or they are the operator."""
    if (known := secret()) is None:
        return True
    return hmac.compare_digest(str(session.get("inside", "")).encode(), mark(known).encode()) or is_operator()


def require_password() -> Response | None:
    """Lead who has not given the password to where it is asked for; 401 for what is no page."""
    if request.endpoint in OPEN:
        return None
    if getattr(current_app.view_functions.get(request.endpoint), "open_to_keys", False):
        return None  # it asks for a key
    if is_inside():
        return None
    if request.endpoint == "sharing.embed":  # no frame may show where the password is asked for
        return allow_frames(make_response(render_template("pages/private_frame.html"), 401))
    if request.method in ("GET", "HEAD") and request.accept_mimetypes.accept_html and not is_fragment():
        return redirect(url_for("private.ask", to=request.full_path.removesuffix("?")), 303)
    return abort(401, SENTENCE)


def remove(app: Flask) -> bool:
    """Let everybody in again; False where no password was stored."""
    try:
        os.unlink(file_in(app))
    except FileNotFoundError:
        return False
    return True
