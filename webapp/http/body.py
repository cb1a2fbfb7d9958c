"""The body of a request, read before anything is done with it: one that is broken or cut short is the sender's fault."""

from collections.abc import Callable

from flask import Flask, abort, current_app, request
from gunicorn.http.errors import ParseException


def roomy(size: int) -> Callable:
    """Mark a view that takes forms of up to so many bytes, where others take a text's. Stands under the view's route."""

    def mark(view: Callable) -> Callable:
        view.room = size
        return view

    return mark


def register(app: Flask) -> None:
    """Read every form at once; answers 400 where that fails."""
    app.before_request(read_form)


def read_form() -> None:
    """Read what a form is parsed from, if there is one; it stays with the request."""
    if request.method != "POST":
        return
    room = getattr(current_app.view_functions.get(request.endpoint), "room", None)
    if room is not None:
        request.max_content_length = request.max_form_memory_size = room
    try:
        whole = len(request.get_data()) >= (request.content_length or 0)
    except (OSError, ParseException):  # the connection broke; the pieces do not fit together
        whole = False
    if not whole:
        abort(400, "This form did not arrive whole; please send it again.")
