"""Two models, one prompt: their texts side by side, and a text in the colours of what the second model sees in it.

Models can be compared token by token where their vocabularies are the same, as a base model's and its fine-tune's are.
"""

from flask import Blueprint, redirect, render_template, request, url_for

from generate import ModelFolder, Refusal
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, visitor
from webapp.runs.derivation import beside
from webapp.runs.kinds import Relation
from webapp.runs.repository import find_related, find_run
from webapp.runs.service import require_done, sampling_of
from webapp.runs.tables import Run
from webapp.state import state
from webapp.views.comparison import DEGREES, Shift
from webapp.views.lenses import LEGENDS, untold
from webapp.views.run_view import shown

blueprint = Blueprint("comparison", __name__)


def second_model(run: Run) -> ModelFolder:
    """The model that the form names, if it can be compared with the run's."""
    here = state().models
    folder = here.find(request.form.get("model", ""))
    here.require_comparable(run, folder)
    return folder


@blueprint.post("/r/<run_id>/beside")
@limited
def write_beside(run_id: str):
    """The same prompt, options and seed for another model."""
    run = find_run(run_id)
    folder, log = second_model(run), state().look(run).log
    beginning = beside(run, log.prompt)
    # the values are the first model's own, not the second's
    changes = {"preset": ""} if run.options.get("preset") == "model" else {}
    second = state().service.start(folder, beginning, sampling_of(run, **changes), make_visitor())
    return redirect(url_for("comparison.side_by_side", first=run.id, second=second), 303)


@blueprint.get("/r/<first>/beside/<second>")
def side_by_side(first: str, second: str):
    """Both texts, each live as long as it is being written."""
    runs = find_run(first), find_related(second, first, Relation.BESIDE)
    sides = [side(run, at) for run, at in zip(runs, ("a-", "b-"), strict=True)]
    nothing = untold(state().models.capabilities, *(one["view"].log for one in sides))
    return render_template("pages/side_by_side.html", sides=sides, legends=LEGENDS, untold=nothing)


def side(run: Run, at: str) -> dict:
    """One of two runs on a page; the ids of its elements begin with `at`."""
    view = state().look(run)
    done, samples = shown(view)
    return {"run": run, "view": view, "done": done, "samples": samples, "at": at, "mine": run.owner == visitor()}


@blueprint.post("/r/<run_id>/shift")
@limited
def score(run_id: str):
    """Let another model read the run's text (that of its first sample), unless it has done so."""
    run = find_run(run_id)
    folder, log, service = second_model(run), state().look(run).log, state().service
    require_done(log, Refusal("This run is still being written; it can be compared when it is done."))
    second = service.kept_score(run, folder) or service.score(run, log, folder, make_visitor())
    return redirect(url_for("comparison.shift", first=run.id, second=second), 303)


@blueprint.get("/r/<first>/shift/<second>")
def shift(first: str, second: str):
    """The text of a run, each token coloured by how much likelier the second model finds it than the run's own."""
    run, scored = find_run(first), find_related(second, first, Relation.SCORE)
    view, scored_view = state().look(run), state().look(scored)
    facts = {"run": run, "scored": scored}
    if not scored_view.log.done:
        return render_template("pages/shift.html", waiting=scored_view.status(), **facts)
    moved = Shift(view, scored_view)
    if not moved.known.any():
        return render_template("pages/shift.html", problem=scored_view.ending(0), **facts)
    most = {cell.start for cell in moved.most_moved}
    return render_template("pages/shift.html", shift=moved, most=most, degrees=DEGREES, **facts)
