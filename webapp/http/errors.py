"""Errors as pages of the site, and as short fragments for htmx, so that what is on the page stays there."""

import json
import logging

from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import BadHost, HTTPException, InternalServerError

from generate import N_, Busy, Refusal, gettext
from webapp.http.request import is_fragment

log = logging.getLogger(__name__)

SENTENCES = {
    400: N_("This request did not arrive as it should; please try again."),
    404: N_("There is no such page here. Perhaps the link lost a letter on its way."),
    405: N_("This address does not take that kind of request."),
    413: N_("That is more text than this server takes at once."),
    414: N_("This address is too long."),
    415: N_("This address does not take that kind of data."),
    416: N_("This file has no such part."),
    500: N_("Something broke on our side. What was already written is kept."),
}
OTHERWISE = N_("This request cannot be answered.")
OF_WERKZEUG = (405, 413, 415)  # whose descriptions are never ours
TITLES = {
    400: N_("That did not arrive"),
    401: N_("A password is needed"),
    404: N_("Not found"),
    405: N_("Not that way"),
    410: N_("Gone"),
    413: N_("Too much text"),
    422: N_("That cannot be done"),
    429: N_("A moment, please"),
    503: N_("Busy"),
    500: N_("Our mistake"),
}


def register(app: Flask) -> None:
    """Answer every error with a page of the site, or a fragment."""
    app.register_error_handler(Refusal, refused)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, unexpected)


def refused(refusal: Refusal, page: str | None = None):
    """A person asked for what cannot be done: a `page` that says so, or one of ours.

    The status is the refusal's own, if it has one, else 503 when we are only busy, and 422.
    """
    status = getattr(refusal, "status", 503 if isinstance(refusal, Busy) else 422)
    answer = said(status, str(refusal), refusal, page)
    if isinstance(refusal, Busy):
        answer.headers["Retry-After"] = str(refusal.retry_after)
    return answer


def http_error(error: HTTPException):
    """An answer for Flask's own errors and `abort`, whose sentence is taken where it has one."""
    if error.code is None or error.code < 400:
        return error
    if isinstance(error, BadHost):  # then no page has an address
        return Response(gettext("The request names no host that there can be.") + "\n", 400, mimetype="text/plain")
    own = vars(error).get("description") if error.code not in OF_WERKZEUG else None  # what `abort` was given
    answer = said(error.code, gettext(own or SENTENCES.get(error.code, OTHERWISE)))
    for name in ("Allow", "Retry-After"):
        if value := dict(error.get_headers()).get(name):
            answer.headers[name] = value
    return answer


def unexpected(error: Exception):
    """An answer for a fault of ours, which is logged and not shown."""
    log.exception("a request failed")
    return http_error(InternalServerError(original_exception=error))


def said(status: int, sentence: str, refusal: Refusal | None = None, page: str | None = None):
    """The answer: JSON for who asks for that, a fragment for htmx, else `page` where there is one, else a page of its own."""
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        field, values = (refusal.field, refusal.problem.as_json()) if refusal else (None, {})
        answer = make_response({"problem": sentence, "field": field, "values": values}, status)
    elif is_fragment():
        answer = make_response(render_template("partials/problem.html", sentence=sentence), status)
        answer.headers.update({"HX-Retarget": "#problem", "HX-Reswap": "innerHTML", "HX-Reselect": ".said"})
        answer.headers["HX-Push-Url"] = "false"
        answer.headers["HX-Trigger"] = json.dumps({"refused": {"field": refusal.field if refusal else None}})
    elif page is not None:
        answer = make_response(page, status)
    else:
        title = gettext(TITLES.get(status, TITLES[422]))
        answer = make_response(
            render_template("pages/error.html", status=status, title=title, sentence=sentence), status
        )
    return answer
