"""Two models, one prompt: their texts side by side, and a text in the colours of what the second model sees in it.

Models can be compared token by token where their vocabularies are the same, as a base model's and its fine-tune's are.
"""

import numpy as np
from flask import Blueprint, current_app, redirect, render_template, request, url_for
from sqlalchemy import select

from generate import ModelFolder, Refusal, find_model, parse_sampling, unknown_records
from webapp.actions import check_size, sampling_of, start
from webapp.http.security import limited
from webapp.http.visitors import visitor
from webapp.pages import look, models, start_samples
from webapp.runs import derivation
from webapp.runs.derivation import Beginning
from webapp.runs.repository import find_related, find_run, same_vocabulary
from webapp.runs.tables import Run, db
from webapp.views.comparison import DEGREES, Shift
from webapp.views.lenses import LEGENDS
from webapp.views.run_view import RunView

blueprint = Blueprint("beside", __name__)

READ_ONLY = parse_sampling({"max_new_tokens": 0, "seed": 0})


@blueprint.app_context_processor
def for_templates() -> dict:
    return {"comparable": comparable}


def comparable(run: Run) -> list[str]:
    """Names of the other models here that have the run's vocabulary."""
    return [m.name for m in models() if m.folder and m.name != run.model and same_vocabulary(run, m.folder)]


def second_model(run: Run) -> ModelFolder:
    """The model that the form names, if it can be compared with the run's."""
    folder = find_model(current_app.config["MODELS"], request.form.get("model", ""))
    if folder.fingerprint() == run.fingerprint:
        raise Refusal(f"{folder.name} is the model that this run has already; choose another.", "model")
    if not same_vocabulary(run, folder):
        raise Refusal(f"{folder.name} has other tokens than {run.model}, so the two cannot be compared.", "model")
    return folder


@blueprint.post("/r/<run_id>/beside")
@limited
def write_beside(run_id: str):
    """The same prompt, options and seed for another model."""
    run = find_run(run_id)
    folder, log = second_model(run), look(run).log
    beginning = Beginning(log.prompt, tuple(run.authors), "beside", run, None, run.first_sample)
    second = start(folder, beginning, sampling_of(run))
    return redirect(url_for("beside.side_by_side", first=run.id, second=second), 303)


@blueprint.get("/r/<first>/beside/<second>")
def side_by_side(first: str, second: str):
    """Both texts, each live as long as it is being written."""
    runs = find_run(first), find_related(second, first, "beside")
    sides = [side(run, at) for run, at in zip(runs, ("a-", "b-"), strict=True)]
    return render_template("pages/side_by_side.html", sides=sides, legends=LEGENDS)


def side(run: Run, at: str) -> dict:
    """One of two runs on a page; the ids of its elements begin with `at`."""
    view = look(run)
    done = view.log.done  # before the text is read: done too early would lose its end
    samples = start_samples(view)
    return {"run": run, "view": view, "done": done, "samples": samples, "at": at, "mine": run.owner == visitor()}


@blueprint.post("/r/<run_id>/shift")
@limited
def score(run_id: str):
    """Let another model read the run's text (that of its first sample), unless it has done so."""
    run = find_run(run_id)
    folder, view = second_model(run), look(run)
    if not view.log.done:
        raise Refusal("This run is still being written; it can be compared when it is done.")
    records, authors = derivation.joined(run, view.log, 0)
    second = kept_score(run, folder) or start(folder, unread(view, records["id"], authors, run), READ_ONLY)
    return redirect(url_for("beside.shift", first=run.id, second=second), 303)


def unread(view: RunView, ids: np.ndarray, authors: tuple[int, ...], run: Run) -> Beginning:
    """A text to be read by another model."""
    check_size(ids.tolist(), view.vocabulary, "be read by another model")
    return Beginning(unknown_records(ids, run.vocab_size), authors, "score", run, 0)


def kept_score(run: Run, folder: ModelFolder) -> str | None:
    """The id of the run in which these weights read this text, or are reading it."""
    same = (Run.parent_id == run.id) & (Run.relation == "score") & (Run.fingerprint == folder.fingerprint())
    for found in db.session.scalars(select(Run).where(same).order_by(Run.created.desc())):
        log = look(found).log
        if not log.done or log.samples[0].finish_reason == "length":
            return found.id
    return None


@blueprint.get("/r/<first>/shift/<second>")
def shift(first: str, second: str):
    """The text of a run, each token coloured by how much likelier the second model finds it than the run's own."""
    run, scored = find_run(first), find_related(second, first, "score")
    view, scored_view = look(run), look(scored)
    facts = {"run": run, "scored": scored}
    if not scored_view.log.done:
        return render_template("pages/shift.html", waiting=scored_view.status(), **facts)
    moved = Shift(view, scored_view)
    if not moved.known.any():
        return render_template("pages/shift.html", problem=scored_view.ending(0), **facts)
    most = {cell.start for cell in moved.most_moved}
    return render_template("pages/shift.html", shift=moved, most=most, degrees=DEGREES, **facts)
