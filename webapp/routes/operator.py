"""How the operator comes in, and leaves."""

from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for

from webapp.http.operator import is_operator, keys, leave, remember

blueprint = Blueprint("operator", __name__)


@blueprint.get("/operator")
def enter():
    """Take a link's key for a cookie, and lead on by a page of ours; 404 for any other key.

    A browser that came from a chat or a mail would take a redirection for theirs, and not send the Strict cookie there.
    """
    secret = keys().exchange(request.args.get("key", "")) if request.method == "GET" else None  # a preview asks by HEAD
    if secret is not None:
        return remember(make_response(render_template("pages/entered.html")), secret)
    return redirect(url_for("workshop.jobs"), 303) if is_operator() else abort(404)


@blueprint.post("/workshop/leave")
def go():
    """Be a visitor again in this browser."""
    return leave(redirect(url_for("home.home"), 303))
