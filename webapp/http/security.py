"""Headers on every answer, and the refusal of forms that come from other sites."""

from urllib.parse import urlsplit

from flask import Flask, abort, current_app, g, request

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


def allow_frames(response):
    """Let other sites show this one answer in a frame."""
    response.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
        "frame-ancestors 'none'", "frame-ancestors *"
    )
    g.without_headers = ("X-Frame-Options",)
    return response


def add_headers(response):
    for name, value in HEADERS.items():
        if name not in g.get("without_headers", ()):
            response.headers.setdefault(name, value)
    if request.path.startswith(("/r/", "/runs")):  # a link is for those who were given it
        response.headers["X-Robots-Tag"] = "noindex"
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
