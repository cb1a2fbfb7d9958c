"""Headers on every answer, the refusal of forms that come from other sites, and a limit on how many runs are started."""

import secrets
from collections.abc import Callable

from flask import Flask, abort, current_app, g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from generate import N_, origin_of
from webapp.http.request import settings

MANY_RUNS = N_("Many runs were started from this network address in a short time; please wait a minute.")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Accel-Buffering": "no",
}


def limited(view: Callable) -> Callable:
    """Mark a view that starts a run: each address may ask for it only so often. Stands under the view's route."""
    return limited_to(None, MANY_RUNS)(view)


def limited_to(limit: str | None, sentence: str) -> Callable:
    """Mark a view that each address may ask for so often, in Flask-Limiter's words, or of all that share
    RUBRIC_RATE_LIMIT (None); `sentence` is for who asks oftener."""

    def mark(view: Callable) -> Callable:
        view.limited = limit, sentence
        return view

    return mark


def register(app: Flask) -> None:
    """Add headers, refusal and limits to an app that has all its views; answers 429 beyond them."""
    app.before_request(refuse_foreign_forms)
    app.after_request(add_headers)
    app.add_template_global(style_nonce)
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://")
    shared = limiter.shared_limit(
        lambda: settings()["RUBRIC_RATE_LIMIT"], scope="writing", error_message=MANY_RUNS
    )  # whatever asks for it
    for name, view in list(app.view_functions.items()):
        if limited := getattr(view, "limited", None):
            limit, sentence = limited
            mark = shared if limit is None else limiter.limit(limit, error_message=sentence)
            app.view_functions[name] = mark(view)


def refuse_foreign_forms() -> None:
    """A POST must come from one of our own pages, where the browser says where it comes from, unless its view asks for a
    key."""
    view = current_app.view_functions.get(request.endpoint)
    if request.method in ("GET", "HEAD", "OPTIONS") or getattr(view, "open_to_keys", False):
        return
    origin = request.headers.get("Origin")
    if origin is not None:
        if not is_ours(origin):
            abort(403, "This form was sent from another site, and only Rubric's own pages may do that.")
    elif request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403, "This form was sent from another site, and only Rubric's own pages may do that.")


def is_ours(origin: str) -> bool:
    """Whether an Origin header names PUBLIC_URL, or the host that this request came to.

    Where no proxy tells by which scheme it came, a site's encryption may have ended before us: then any scheme is right.
    """
    try:
        theirs = origin_of(origin)
        if settings()["PUBLIC_URL"] and theirs == origin_of(settings()["PUBLIC_URL"]):
            return True
        told = settings()["TRUSTED_PROXIES"] and "X-Forwarded-Proto" in request.headers
        scheme = request.scheme if told or request.is_secure else theirs[0]
        return theirs == origin_of(f"{scheme}://{request.host}")
    except ValueError:  # "null", or no address at all
        return False


def allow_frames(response):
    """Let other sites show this one answer in a frame."""
    response.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
        "frame-ancestors 'none'", "frame-ancestors *"
    )
    g.without_headers = ("X-Frame-Options",)
    return response


def style_nonce() -> str:
    """A word by which this answer's page, and no other one, lets its scripts write style sheets, as the editor does."""
    if "style_nonce" not in g:
        g.style_nonce = secrets.token_urlsafe(16)
    return g.style_nonce


def add_headers(response):
    """Put HEADERS on an answer, and keep it out of caches unless it says how long it may stay there."""
    if "style_nonce" in g:
        response.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
            "style-src 'self'", f"style-src 'self' 'nonce-{g.style_nonce}'"
        )
    for name, value in HEADERS.items():
        if name not in g.get("without_headers", ()):
            response.headers.setdefault(name, value)
    if request.path.startswith(("/r/", "/runs", "/s/")):  # a link is for those who were given it
        response.headers["X-Robots-Tag"] = "noindex"
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
