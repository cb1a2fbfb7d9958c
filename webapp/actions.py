"""What a visitor does: start a run, stop it, continue it, try again."""

import secrets
from collections.abc import Iterable
from dataclasses import replace

from flask import Blueprint, Response, current_app, redirect, request, url_for
from sqlalchemy import update

from generate import (
    OPTIONS,
    ModelFolder,
    Refusal,
    Request,
    RunLog,
    Sampling,
    Vocabulary,
    find_model,
    parse_sampling,
    unknown_records,
)
from webapp.http.request import is_fragment, settings, whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, visitor
from webapp.pages import look, require_engine
from webapp.runs import derivation
from webapp.runs.derivation import Beginning
from webapp.runs.lease import LEASE
from webapp.runs.registry import live
from webapp.runs.repository import find_run, keep_vocabulary, new_run, same_vocabulary
from webapp.runs.tables import Run, db

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
        return begin(folder, derivation.fresh(folder, text), sampling)
    parent = find_run(parent_id)
    number = request.form.get("parent_sample", type=int)
    if same_vocabulary(parent, folder):
        beginning = derivation.edit(parent, look(parent).log, number, text, folder)
    else:  # another model with other tokens: only the text can be carried over
        beginning = replace(derivation.fresh(folder, text), relation="edit", parent=parent, parent_sample=number)
    return begin(folder, beginning, sampling)


@blueprint.post("/r/<run_id>/retry")
@limited
def retry(run_id: str):
    """The same prompt and options with a new seed."""
    parent = find_run(run_id)
    return begin(
        model_of(parent), derivation.retry(parent, look(parent).log), sampling_of(parent, seed=secrets.randbelow(2**32))
    )


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
    return begin(model_of(parent), beginning, sampling_of(parent, samples=1, **to_write(parent)))


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
    return begin(folder, beginning, sampling_of(parent, samples=1, **to_write(parent), seed=secrets.randbelow(2**32)))


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
    return redirect(url_for("pages.run_page", run_id=run.id), 303)


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


def check_size(ids: Iterable[int], vocabulary: Vocabulary, purpose: str, field: str | None = None) -> None:
    """Refuse a text of tokens that is longer than a prompt may be, lest runs grow from runs without end."""
    size, limit = len(vocabulary.bytes_of(ids)), settings()["RUBRIC_MAX_PROMPT"]
    if size > limit:
        raise Refusal(f"The text has {size:,} bytes and cannot {purpose}; the limit is {limit:,}.", field)


def begin(folder: ModelFolder, beginning: Beginning, sampling: Sampling):
    """Start a run and send the visitor to its page."""
    return redirect(url_for("pages.run_page", run_id=start(folder, beginning, sampling)), 303)


def start(folder: ModelFolder, beginning: Beginning, sampling: Sampling) -> str:
    """Put a run in line and store it; returns its id."""
    engine = require_engine()
    owner = make_visitor()
    fingerprint, vocabulary = folder.fingerprint(), keep_vocabulary(folder)
    run_id = secrets.token_urlsafe(12)
    records = beginning.records
    if beginning.parent and beginning.parent.fingerprint != fingerprint:  # what others thought of them is not its own
        records = unknown_records(beginning.ids, folder.config.vocab_size)
    log = RunLog(beginning.ids, sampling.samples, folder.config.vocab_size)
    log.prompt = records.copy()  # the engine writes into it
    engine.submit(Request(folder, beginning.ids, sampling, beginning.first_sample, owner), log)
    try:
        new_run(
            id=run_id,
            owner=owner,
            model=folder.name,
            fingerprint=fingerprint,
            vocabulary_id=vocabulary,
            vocab_size=folder.config.vocab_size,
            n_positions=folder.config.n_positions,
            options=sampling.as_dict(),
            prompt=records.tobytes(),
            authors=list(beginning.authors),
            first_sample=beginning.first_sample,
            relation=beginning.relation,
            parent_id=beginning.parent.id if beginning.parent else None,
            parent_sample=beginning.parent_sample,
            holder=live().server,
            lease_until=live().now() + LEASE,
        )
    except Exception:
        engine.cancel(log)
        raise
    live().add(run_id, log)
    return run_id


def model_of(run: Run) -> ModelFolder:
    """The model a run was written by; its tokens must still mean the same."""
    folder = find_model(current_app.config["MODELS"], run.model)
    if not same_vocabulary(run, folder):
        raise Refusal(
            f"The model {run.model} has other tokens now than when this was written; edit the text to go on with it."
        )
    return folder


def to_write(run: Run) -> dict:
    """What to change in a run's options to write on from it: one that was only read gets the usual length."""
    return {} if run.options["max_new_tokens"] else {"max_new_tokens": None}


def sampling_of(run: Run, **changes) -> Sampling:
    return parse_sampling(run.options | changes)
