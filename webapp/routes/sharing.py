"""A link in other places: what there is to share, a run's picture in a chat, a code for a phone nearby, a page's frame."""

from flask import Blueprint, Response, make_response, render_template, request

from webapp.http.neighbours import link_for_phones, network_link
from webapp.http.request import is_fragment, link_to, link_to_sheet
from webapp.http.security import allow_frames
from webapp.http.visitors import visitor
from webapp.runs.repository import find_run
from webapp.runs.tables import Run
from webapp.sheets.search import sheet_with
from webapp.sheets.store import find_sheet
from webapp.sheets.tables import Sheet
from webapp.state import state
from webapp.views.exports import text_of_run
from webapp.views.qr import qr_svg
from webapp.views.run_view import shown
from webapp.views.sheet_state import text_shown
from webapp.views.versions import versions

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
    return drawn(link_to(find_run(run_id).id))


@blueprint.get("/s/<sheet_id>/qr.svg")
def sheet_code(sheet_id: str):
    """The sheet's link as a QR code."""
    return drawn(link_to_sheet(find_sheet(sheet_id).id))


def drawn(link: dict) -> Response:
    """A link as a QR code."""
    return Response(qr_svg(link_for_phones(link)), mimetype="image/svg+xml")


@blueprint.get("/r/<run_id>/share")
def share_run(run_id: str):
    """What can be shared of a run, and of the sheet that it is a version of."""
    run = find_run(run_id)
    kept = sheet_with(run)
    return offered([of_run(run), *([of_sheet(find_sheet(kept), run)] if kept else [])])


@blueprint.get("/s/<sheet_id>/share")
def share_sheet(sheet_id: str):
    """What can be shared of a sheet, and of its newest version."""
    sheet = find_sheet(sheet_id)
    newest = versions(sheet, 1)
    run = find_run(newest[0].id) if newest else None
    return offered([of_sheet(sheet, run), *([of_run(run)] if run else [])])


def offered(ways: list[dict]) -> str:
    """What is shared, each way on its own; a page, or for the dialog of another page only its content."""
    return render_template("partials/share.html" if is_fragment() else "pages/share.html", ways=ways)


def of_run(run: Run) -> dict:
    """What the template says of a run. `path` is where its pictures and files are."""
    link = link_to(run.id)
    text = text_of_run(state().look(run))
    return about("version", f"/r/{run.id}", run.id, link, text) | {"picture": f"/r/{run.id}.png"}


def of_sheet(sheet: Sheet, version: Run | None) -> dict:
    """The same of a sheet, whose picture is that of a version."""
    link, mine = link_to_sheet(sheet.id), sheet.owner == visitor()
    text = text_shown(sheet, mine, state().sources)
    picture = f"/r/{version.id}.png" if version else None
    return about("sheet", f"/s/{sheet.id}", sheet.id, link, text) | {"picture": picture, "mine": mine}


def about(kind: str, path: str, name: str, link: dict, text: str) -> dict:
    """What a run and a sheet have in common."""
    return {"kind": kind, "path": path, "name": name, "link": link, "near": network_link(link), "text": text}


@blueprint.get("/r/<run_id>/embed")
def embed(run_id: str):
    """The bare text, live, for a frame in anybody's page."""
    run = find_run(run_id)
    view = state().look(run)
    done, samples = shown(view)
    return allow_frames(
        make_response(render_template("pages/embed.html", run=run, view=view, done=done, samples=samples))
    )
