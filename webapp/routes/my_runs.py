"""What belongs to a visitor: the list of their sheets and runs, all runs in one file, and the end of any."""

from collections.abc import Iterator

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for

from generate import Refusal
from webapp.http.request import link_to
from webapp.http.visitors import require_owner, visitor
from webapp.runs.registry import hold
from webapp.runs.repository import RemovedRun, find_run, get_run
from webapp.runs.search import runs_of
from webapp.runs.tables import Run, db
from webapp.sheets.search import counts_of, entries_of
from webapp.state import State, state
from webapp.views.excerpts import entries
from webapp.views.exports import facts_of, written

blueprint = Blueprint("my_runs", __name__)

PAGE = 20  # entries


@blueprint.get("/runs")
def runs():
    """The visitor's sheets, and runs that belong to none, the last changed first; `?q=` finds words, `?page=` counts from 1."""
    query = request.args.get("q", "").replace("\0", "").strip()  # as in what is searched
    page = request.args.get("page", 1, type=int)
    if not (1 <= page <= 1_000_000):
        abort(404, "There is no such page of runs.")
    counts = counts_of(visitor(), query)
    newest = db.session.execute(entries_of(visitor(), query).offset((page - 1) * PAGE).limit(PAGE)).all()
    items = entries(list(map(tuple, newest)), state().sources, state().vocabularies)
    more = sum(counts.values()) > page * PAGE
    return render_template("pages/my_runs.html", items=items, counts=counts, query=query, page=page, more=more)


@blueprint.get("/runs.jsonl")
def download():
    """All of the visitor's runs, newest first: a line for each, as `/r/ID.json` gives it."""
    newest = runs_of(visitor()).with_only_columns(Run.id).order_by(Run.created.desc(), Run.id)
    ids = db.session.scalars(newest).all()
    start = link_to("-")["url"].removesuffix("-")
    here = state()
    lines = hold(here.streams, here.registry, each_run(here, ids, start))
    response = Response(lines, mimetype="application/jsonl")
    response.headers["Content-Disposition"] = 'attachment; filename="rubric-runs.jsonl"'
    return response


@blueprint.post("/r/<run_id>/delete")
def delete(run_id: str):
    """Remove a run at once; only who started it may."""
    run = find_run(run_id)
    require_owner(run.owner, Refusal("Only the visitor who started this run can delete it."))
    if not state().service.delete(run):
        find_run(run_id)  # another click was quicker; this tells that it is gone
    state().forget_removed()
    return redirect(url_for("my_runs.runs"), 303)


def each_run(state: State, ids: list[str], start: str) -> Iterator[str]:
    """One line of JSON after the other. No database session is held while a line is on its way."""
    for run_id in ids:
        with state.app.app_context():
            run = get_run(run_id)
            try:
                view = state.look(run) if run else None
            except RemovedRun:
                view = None
            if view is None:  # deleted or hidden meanwhile
                continue
            facts = facts_of(run, view, start + run_id)
        yield from written(facts, view)
