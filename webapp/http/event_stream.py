"""The form of server-sent events, and of the pieces of HTML in them that htmx puts in their places."""

from collections.abc import Iterator
from enum import StrEnum

from flask import Response


class EventName(StrEnum):
    """What an event is, to the page's scripts; pieces of the page come in events without a name."""

    BEAT = "beat"  # the stream lives
    PAUSE = "pause"  # it ends, and goes on when the reader comes back
    DONE = "done"  # it ends for good
    BUSY = "busy"  # there is no room for it now


def event(name: str | None, data: str, number: str | None = None, retry: int | None = None) -> str:
    """One server-sent event. `data` must hold no line break; htmx swaps in only events without a name."""
    fields = [("event", name), ("id", number), ("retry", retry), ("data", data)]
    return "".join(f"{key}: {value}\n" for key, value in fields if value is not None) + "\n"


def partial(target: str, swap: str, html: str) -> str:
    """A piece of HTML with the place in the page where htmx puts it."""
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'


def one_line(html: str) -> str:
    """The same HTML without line breaks, which would end an event's data."""
    return " ".join(html.split())


def event_stream(parts: Iterator[str]) -> Response:
    """An answer that sends events as they come; nothing on the way may keep or change them."""
    response = Response(parts, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store, no-transform"
    return response
