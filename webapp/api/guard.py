"""What every request of the API passes: who may ask, how many at once, and the headers and errors that its clients know.

A key is needed unless the request comes from this very machine, and from no web page but ours, and the server is not private.
"""

import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack

from flask import Blueprint, Response, current_app, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from generate import Busy, Refusal
from webapp.api.errors import INVALID, SERVER, NoKey, TooLarge, body_of, status_of, told
from webapp.api.keys import owner_of
from webapp.http.at_home import at_home
from webapp.http.private import is_private
from webapp.runs.registry import Streams

log = logging.getLogger(__name__)

MOST = 64  # requests at once; gunicorn.conf.py has a thread for each
RETRY_AFTER = 2  # seconds
NOBODY = "api"  # whose runs are started without a key
EXPOSED = "x-request-id, retry-after"
DAY = 86_400


def guard(blueprint: Blueprint, takes_place: bool = True) -> None:
    """Put all this around the views of a blueprint; with `takes_place` each request of it counts among those at once."""
    blueprint.before_request(name_request)
    blueprint.before_request(answer_preflight)
    blueprint.before_request(find_owner)
    if takes_place:
        blueprint.before_request(take_slot)
    blueprint.after_request(add_headers)
    blueprint.teardown_request(let_go)
    blueprint.register_error_handler(Refusal, refused)
    blueprint.register_error_handler(HTTPException, http_error)
    blueprint.register_error_handler(Exception, unexpected)


def open_to_keys(view: Callable) -> Callable:
    """Mark a view that needs no password, and that forms of other sites may be sent to, as it asks for a key. Stands under the
    view's route."""
    view.open_to_keys = True
    return view


# Who asks


def find_owner() -> None:
    """Whose request it is, as `g.owner`; raises NoKey, and KeyBlocked."""
    key = bearer(request.headers)
    g.owner = owner_of(key) if key else None
    if g.owner is None and is_keyless():
        g.owner = NOBODY
    if g.owner is None:
        raise NoKey(
            "This server does not know the key that was sent."
            if key
            else "A key is needed: send Authorization: Bearer KEY."
        )


def is_keyless() -> bool:
    """Whether this request needs no key. Where a password opens the page, nothing that runs here comes in without one."""
    return at_home() and not is_private()


def bearer(headers: Headers) -> str | None:
    """The key that came along."""
    kind, _, key = headers.get("Authorization", "").partition(" ")
    return key.strip() or None if kind.lower() == "bearer" else None


# How many at once


class Slots(Streams):
    """The places for requests of the API, each of which holds a thread."""

    def take_or_refuse(self) -> None:
        """Take a place until `give_back` is called; raises Busy when all are taken."""
        if not self.take():
            raise Busy(
                "{most} requests are being answered already; please ask again in a moment.", RETRY_AFTER, most=self.most
            )


def take_slot() -> None:
    """Take a place for this request; raises Busy. What is in `g.held` is let go of when its answer is made, unless a stream
    takes it over."""
    slots = current_app.extensions["rubric"].api.slots
    slots.take_or_refuse()
    g.held = ExitStack()
    g.held.callback(slots.give_back)


def let_go(_error: BaseException | None) -> None:
    """The answer is made, or could not be."""
    if (held := g.pop("held", None)) is not None:
        held.close()


# Headers


def answer_preflight() -> Response | None:
    """A browser asks whether a page of another site may ask: yes, with a key."""
    if request.method != "OPTIONS":
        return None
    answer = Response(status=204)
    asked = request.headers.get("Access-Control-Request-Headers", "")
    if "Origin" in request.headers and "authorization" in {name.strip().lower() for name in asked.split(",")}:
        answer.headers["Access-Control-Allow-Methods"] = "GET, POST"
        answer.headers["Access-Control-Allow-Headers"] = asked
        answer.headers["Access-Control-Max-Age"] = str(DAY)
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            answer.headers["Access-Control-Allow-Private-Network"] = "true"
        g.keyed = True
    return answer


def name_request() -> None:
    """Give the request a name, by which its answer can be asked about."""
    g.request_id = f"req_{secrets.token_hex(16)}"
    g.keyed = bearer(request.headers) is not None


def add_headers(response: Response) -> Response:
    """The request's name; and other sites' pages may read the answer to a request that brought a key, and no other."""
    if "request_id" not in g:  # it was refused before it came to us
        name_request()
    response.headers["x-request-id"] = g.request_id
    response.vary.add("Origin")
    if g.keyed and (origin := request.headers.get("Origin")):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


# Errors


def refused(refusal: Refusal):
    """What could not be done, in OpenAI's form."""
    headers = {}
    if isinstance(refusal, Busy):
        headers["Retry-After"] = str(refusal.retry_after)
    elif isinstance(refusal, NoKey):
        headers["WWW-Authenticate"] = "Bearer"
    return told(refusal), status_of(refusal), headers


def http_error(error: HTTPException):
    """Flask's own errors, in OpenAI's form."""
    if error.code is None or error.code < 400:
        return error
    if isinstance(error, RequestEntityTooLarge):
        return refused(
            TooLarge(
                "The body may have at most {limit} bytes, and this one has more.", limit=request.max_content_length
            )
        )
    return body_of(error.description, SERVER if error.code >= 500 else INVALID), error.code


def unexpected(error: Exception):
    """A fault of ours, which is logged and not shown."""
    log.exception("a request of the API failed")
    return body_of("Something broke on our side.", SERVER, code="internal_error"), 500
