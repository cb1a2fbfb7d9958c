"""A run's link in other places: its picture in a chat, its code for a phone nearby, its text in another page's frame."""

from flask import Blueprint, Response, make_response, render_template, request

from webapp.http.request import link_to
from webapp.http.security import allow_frames
from webapp.runs.repository import find_run
from webapp.state import state
from webapp.views.qr import qr_svg
from webapp.views.run_view import shown

blueprint = Blueprint("sharing", __name__)


@blueprint.get("/r/<run_id>.png")
def card(run_id: str):
    """The preview card: 1200 x 630 px, the text so far in its two inks."""
    run = find_run(run_id)
    view = state().look(run)
    prompt = [(text, by_model) for text, by_model, _ in view.prompt_parts()]
    parts = (*prompt, (view.text(0).removesuffix("\ufffd"), True))
    response = Response(
        state().cards.draw(parts, run.model), mimetype="image/png", headers={"Cache-Control": "no-cache"}
    )
    response.add_etag()
    return response.make_conditional(request)


@blueprint.get("/r/<run_id>/qr.svg")
def code(run_id: str):
    """The run's link as a QR code."""
    return Response(qr_svg(link_to(find_run(run_id).id)["url"]), mimetype="image/svg+xml")


@blueprint.get("/r/<run_id>/embed")
def embed(run_id: str):
    """The bare text, live, for a frame in anybody's page."""
    run = find_run(run_id)
    view = state().look(run)
    done, samples = shown(view)
    return allow_frames(
        make_response(render_template("pages/embed.html", run=run, view=view, done=done, samples=samples))
    )
