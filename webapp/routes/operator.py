"""How the operator comes in, and leaves."""

from flask import Blueprint, abort, redirect, request, url_for

from webapp.http.operator import is_operator, keys, leave, remember

blueprint = Blueprint("operator", __name__)


@blueprint.get("/operator")
def enter():
    """Take a link's key for a cookie, and lead on, so that no key stays in the browser's history; 404 for any other key."""
    secret = keys().exchange(request.args.get("key", "")) if request.method == "GET" else None  # a preview asks by HEAD
    to_workshop = redirect(url_for("workshop.jobs"), 303)
    if secret is not None:
        return remember(to_workshop, secret)
    return to_workshop if is_operator() else abort(404)


@blueprint.post("/workshop/leave")
def go():
    """Be a visitor again in this browser."""
    return leave(redirect(url_for("home.home"), 303))
