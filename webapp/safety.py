"""Headers on every answer, and the refusal of forms that come from other sites."""

from urllib.parse import urlsplit

from flask import Flask, abort, current_app, request

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Accel-Buffering": "no",
}


def register(app: Flask) -> None:
    app.before_request(refuse_foreign_forms)
    app.after_request(add_headers)


def refuse_foreign_forms() -> None:
    """A POST must come from one of our own pages, where the browser says where it comes from."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    if origin is not None:
        ours = {request.host, urlsplit(current_app.config["SETTINGS"]["PUBLIC_URL"]).netloc}
        if urlsplit(origin).netloc not in ours or not urlsplit(origin).netloc:
            abort(403, "This form was sent from another site, and only Rubric's own pages may do that.")
    elif request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403, "This form was sent from another site, and only Rubric's own pages may do that.")


def add_headers(response):
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
