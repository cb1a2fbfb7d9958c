"""What a visitor does: start a run, stop it, continue it, try again."""

import secrets
from dataclasses import replace

from flask import Blueprint, Response, current_app, request
from sqlalchemy import update

from generate import (
    OPTIONS,
    Refusal,
    find_model,
    parse_sampling,
)
from webapp.http.request import is_fragment, settings, to_run, whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, visitor
from webapp.runs import derivation
from webapp.runs.registry import live
from webapp.runs.repository import find_run, same_vocabulary
from webapp.runs.service import check_size, model_of, sampling_of, start, to_write
from webapp.runs.tables import Run, db
from webapp.views.run_view import look

blueprint = Blueprint("actions", __name__)


@blueprint.post("/runs")
@limited
def create():
    """Start a run from the form; as an edit when it names a parent."""
    text = prompt_text()
    folder = find_model(current_app.config["MODELS"], request.form.get("model") or settings()["RUBRIC_MODEL"])
    given = {option.name: request.form.get(option.name) for option in OPTIONS}
    if "read" in request.form:  # the button "Only read it"
        given |= {"max_new_tokens": 0, "samples": 1}
    sampling = parse_sampling(given | {"stop": request.form.get("stop")}, dict(folder.defaults))
    parent_id = request.form.get("parent")
    if not parent_id:
        return to_run(start(folder, derivation.fresh(folder, text), sampling, make_visitor()))
    parent = find_run(parent_id)
    number = request.form.get("parent_sample", type=int)
    if same_vocabulary(parent, folder):
        beginning = derivation.edit(parent, look(parent).log, number, text, folder)
    else:  # another model with other tokens: only the text can be carried over
        beginning = replace(derivation.fresh(folder, text), relation="edit", parent=parent, parent_sample=number)
    return to_run(start(folder, beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/retry")
@limited
def retry(run_id: str):
    """The same prompt and options with a new seed."""
    parent = find_run(run_id)
    beginning = derivation.retry(parent, look(parent).log)
    sampling = sampling_of(parent, seed=secrets.randbelow(2**32))
    return to_run(start(model_of(parent), beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/continue")
@limited
def go_on(run_id: str):
    """One sample and on, with the seed it had."""
    parent = find_run(run_id)
    view = look(parent)
    if not view.log.done:
        raise Refusal("This run is still being written; it can be continued when it is done.")
    beginning = derivation.go_on(parent, view.log, whole_number("sample") if "sample" in request.form else 0)
    check_size(beginning.ids, view.vocabulary, "be continued")
    sampling = sampling_of(parent, samples=1, **to_write(parent))
    return to_run(start(model_of(parent), beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/fork")
@limited
def fork(run_id: str):
    """The text up to a token and another token there, or `again` from there on; with a new seed, as a run of one's own."""
    parent = find_run(run_id)
    view = look(parent)
    number = None if request.form.get("sample") == "prompt" else whole_number("sample")
    token = whole_number("token") if request.form.get("token") else None
    folder = model_of(parent)
    beginning = derivation.fork(parent, view.log, number, whole_number("place"), token, folder)
    check_size(beginning.ids, view.vocabulary, "be forked there", "place")
    sampling = sampling_of(parent, samples=1, **to_write(parent), seed=secrets.randbelow(2**32))
    return to_run(start(folder, beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/stop")
def stop(run_id: str):
    """End a run; only who started it may."""
    run = find_run(run_id)
    if run.owner != visitor():
        raise Refusal("Only the visitor who started this run can stop it.")
    db.session.execute(update(Run).where(Run.id == run.id, Run.state == "writing").values(stop_asked="cancelled"))
    db.session.commit()  # whichever server writes it hears of it
    live().stop(run.id)
    if is_fragment():
        return Response(status=204)  # the stream brings the news
    return to_run(run.id)


def prompt_text() -> str:
    """The prompt as the person typed it: browsers send CRLF for every line break, we keep LF."""
    text = request.form.get("prompt")
    if text is None:
        raise Refusal("prompt is missing from the form; it may be empty, but it must be there.", "prompt")
    text = text.replace("\r\n", "\n")
    size, limit = len(text.encode("utf-8", "replace")), settings()["RUBRIC_MAX_PROMPT"]
    if size > limit:
        raise Refusal(f"prompt may have at most {limit:,} bytes, not {size:,}.", "prompt")
    return text
