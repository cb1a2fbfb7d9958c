"""A visitor finds something wrong with a run or a sheet, and says so to whoever runs the server."""

from flask import Blueprint, render_template, request

from generate import N_, Refusal
from webapp.http.errors import refused
from webapp.http.security import limited_to
from webapp.http.visitors import make_visitor
from webapp.moderation import reports
from webapp.moderation.tables import Kind
from webapp.runs.repository import find_run
from webapp.sheets.store import find_sheet

blueprint = Blueprint("report", __name__)

MANY = N_("Many things were reported from this network address in a short time; please wait a while.")


@blueprint.get("/r/<run_id>/report")
def run(run_id: str):
    """The form, for a run."""
    return form(Kind.RUN, find_run(run_id).id)


@blueprint.get("/s/<sheet_id>/report")
def sheet(sheet_id: str):
    """The form, for a sheet."""
    return form(Kind.SHEET, find_sheet(sheet_id).id)


@blueprint.post("/r/<run_id>/report")
@limited_to(reports.FROM_ONE_ADDRESS, MANY)
def report_run(run_id: str):
    """Take what is said of a run."""
    return take(Kind.RUN, find_run(run_id).id)


@blueprint.post("/s/<sheet_id>/report")
@limited_to(reports.FROM_ONE_ADDRESS, MANY)
def report_sheet(sheet_id: str):
    """Take what is said of a sheet."""
    return take(Kind.SHEET, find_sheet(sheet_id).id)


def form(kind: Kind, name: str, **more) -> str:
    """The page that asks what is wrong."""
    path = f"/{'r' if kind is Kind.RUN else 's'}/{name}"
    about = {"path": path, "reasons": reports.REASONS, "most": reports.MOST_WORDS, "days": reports.KEPT.days}
    return render_template("pages/report.html", **about, **more)


def take(kind: Kind, name: str):
    """Store it; or the form again with what is wrong with it."""
    reason, words = request.form.get("reason", ""), request.form.get("words", "").replace("\r\n", "\n")
    try:
        reports.report(kind, name, make_visitor(), reason, words)
    except Refusal as refusal:
        filled_in = {"problem": str(refusal), "field": refusal.field, "reason": reason, "words": words}
        return refused(refusal, form(kind, name, **filled_in))
    return form(kind, name, is_done=True)
