"""A finished run once more: asking for its replay, and looking how far it is."""

from flask import Blueprint, Response, redirect, render_template, request, url_for
from markupsafe import escape

from generate import N_, Refusal, gettext, languages
from webapp.http.request import is_fragment
from webapp.http.security import limited
from webapp.http.visitors import make_visitor
from webapp.runs.replays import Replay
from webapp.runs.repository import find_run, get_run
from webapp.runs.service import require_done
from webapp.runs.tables import Run
from webapp.state import state
from webapp.views.replay import progress

blueprint = Blueprint("replay", __name__)

UNKNOWN = N_("This replay is over and no longer known here; the run can be replayed again.")


@blueprint.post("/r/<run_id>/replay")
@limited
def begin(run_id: str):
    """Write a finished run again, as far as it went; anybody may."""
    run = find_run(run_id)
    owner = make_visitor()
    replays = state().replays
    key = replays.going_on(run.id, owner)
    if key is None:
        view = state().look(run)
        require_done(view.log, Refusal("This run is still being written; it can be replayed when it is done."))
        key = state().service.replay(run, view.log, view.vocabulary, owner)
    address = url_for("replay.show", run_id=run.id, key=key)
    if is_fragment():
        answer = page(run, key, replays.find(run.id, key))
        answer.headers["Content-Location"] = f"{address}?whole"
        return answer
    return redirect(address, 303)


@blueprint.get("/r/<run_id>/replay/<key>")
def show(run_id: str, key: str):
    """How far a replay is, or its verdict; with `?whole` all that a press of the button brings."""
    run = get_run(run_id)
    replay = state().replays.find(run_id, key) if run else None
    if not is_fragment():
        if replay is None:
            find_run(run_id)  # tells of one that was deleted
        return page(run, key, replay)
    if "whole" in request.args:  # it was asked for once more; the answer takes the form's place for it
        return page(run, key, replay)
    if replay is not None and replay.verdict is None:
        return Response(escape(progress(replay)))  # into the element that asks
    answer = page(run, key, replay)  # in place of the element that asks, which ends its asking
    answer.headers.update({"HX-Retarget": "#replay", "HX-Reswap": "innerHTML"})
    return answer


def told(replay: Replay) -> str | None:
    """Its verdict in the page's language; None while there is none."""
    return replay.told.get(languages.language()) or (gettext(replay.verdict) if replay.verdict else None)


def page(run: Run | None, key: str, replay: Replay | None) -> Response:
    """A page of its own, or for htmx what the run's page shows of a replay."""
    verdict, so_far = (told(replay), progress(replay)) if replay else (gettext(UNKNOWN), "")
    html = render_template(
        "pages/replay.html", run=run, key=key, verdict=verdict, progress=so_far, alone=not is_fragment()
    )
    return Response(html, 200 if replay else 404)
