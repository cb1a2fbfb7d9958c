"""The body of a request, read before anything is done with it: one that is broken or cut short is the sender's fault."""

from flask import Flask, abort, request
from gunicorn.http.errors import ParseException


def register(app: Flask) -> None:
    """Read every form at once; answers 400 where that fails."""
    app.before_request(read_form)


def read_form() -> None:
    """Read what a form is parsed from, if there is one; it stays with the request."""
    if request.method != "POST":
        return
    try:
        whole = len(request.get_data()) >= (request.content_length or 0)
    except (OSError, ParseException):  # the connection broke; the pieces do not fit together
        whole = False
    if not whole:
        abort(400, "This form did not arrive whole; please send it again.")
