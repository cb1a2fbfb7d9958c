"""A sample of several gets a page of its own."""

from flask import Blueprint

from generate import Refusal
from webapp.http.request import to_run, whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor
from webapp.runs import picks
from webapp.runs.repository import find_run
from webapp.state import state

blueprint = Blueprint("samples", __name__)


@blueprint.post("/r/<run_id>/pick")
@limited
def pick(run_id: str):
    """Give one finished sample a page of its own; a second click leads to the same page."""
    parent = find_run(run_id)
    view = state().look(parent)
    log = view.log
    number = whole_number("sample", len(log.samples) - 1)
    if len(log.samples) == 1:
        return to_run(parent.id)  # it has its page already
    if log.samples[number].finish_reason is None:
        raise Refusal("This sample is still being written; it can have its own page when it is done.")
    return to_run(picks.pick(parent, log, view.vocabulary, number, make_visitor()))
