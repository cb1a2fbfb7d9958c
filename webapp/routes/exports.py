"""A run or a sheet to take away: its text, and all that is known of it."""

from flask import Blueprint, Response

from webapp.http.request import link_to, link_to_sheet
from webapp.http.visitors import visitor
from webapp.runs.repository import find_run
from webapp.sheets.store import find_sheet
from webapp.state import state
from webapp.views.exports import dumps, facts_of, facts_of_sheet, text_of_run, written
from webapp.views.sheet_state import text_shown

blueprint = Blueprint("exports", __name__)


@blueprint.get("/r/<run_id>.txt")
def text(run_id: str):
    """Prompt and continuation as UTF-8; of several samples each stands under a line with its number."""
    return Response(text_of_run(state().look(find_run(run_id))), mimetype="text/plain")


@blueprint.get("/r/<run_id>.json")
def everything(run_id: str):
    """All that is known: tokens with ids, bytes, log-probabilities, ranks, alternatives. What is not known is null."""
    run = find_run(run_id)
    view = state().look(run)
    return Response(written(facts_of(run, view, link_to(run.id)["url"]), view), mimetype="application/json")


@blueprint.get("/s/<sheet_id>.txt")
def sheet_text(sheet_id: str):
    """A sheet's text as UTF-8, exactly; to others than its owner that of its last writing."""
    sheet = find_sheet(sheet_id)
    return Response(text_shown(sheet, sheet.owner == visitor(), state().sources), mimetype="text/plain")


@blueprint.get("/s/<sheet_id>.json")
def whole_sheet(sheet_id: str):
    """A sheet with who wrote what, and its versions; all that is known of a token stands in the JSON of its run."""
    sheet, link = find_sheet(sheet_id), link_to_sheet(sheet_id)["url"]
    facts = facts_of_sheet(sheet, sheet.owner == visitor(), state().sources, link, lambda run: link_to(run)["url"])
    return Response(dumps(facts) + "\n", mimetype="application/json")
