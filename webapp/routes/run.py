"""A run's page, and what a visitor does from it: stop it, continue it, try again, go on with another word."""

import secrets

from flask import Blueprint, Response, render_template, request

from generate import Refusal
from webapp.http.request import is_fragment, link_to, to_run, whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, require_owner, visitor
from webapp.runs import derivation
from webapp.runs.lineage import family_of
from webapp.runs.repository import find_run
from webapp.runs.service import require_done, sampling_of, to_write
from webapp.sheets.search import sheet_with
from webapp.state import state
from webapp.views.lenses import LEGENDS, untold
from webapp.views.presets import told_preset
from webapp.views.run_view import shown, tool_facts
from webapp.views.samples import contact_sheet
from webapp.views.sentences import RELATIONS, TITLES, told_options

blueprint = Blueprint("run", __name__)


@blueprint.get("/r/<run_id>")
def run_page(run_id: str):
    """A run, as far as it is; the rest comes by its events."""
    run = find_run(run_id)
    view = state().look(run)
    done, samples = shown(view)
    return render_template(
        "pages/run.html",
        run=run,
        samples=samples,
        sheet=contact_sheet(view, samples, done) if len(samples) > 1 else None,
        others=state().models.comparable(run),
        family=family_of(run),
        version_of=sheet_with(run),
        relations=RELATIONS,
        legends=LEGENDS,
        first_lens="author"
        if run.options["max_new_tokens"]
        else "probability",  # what was only read is there for its numbers
        untold=untold(state().models.capabilities, view.log),
        link=link_to(run.id),
        options=told_options(run.options),
        titles=TITLES,
        preset=told_preset(run.options, state().models.defaults_of(run.model)),
        beginning=" ".join(view.text(0).split())[:200],
        **tool_facts(view, run.owner == visitor(), done),
    )


@blueprint.post("/r/<run_id>/retry")
@limited
def retry(run_id: str):
    """The same prompt and options with a new seed."""
    parent = find_run(run_id)
    here = state()
    folder, beginning = here.models.find_for(parent), derivation.retry(parent, here.look(parent).log)
    sampling = sampling_of(parent, seed=secrets.randbelow(2**32))
    return to_run(here.service.start(folder, beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/continue")
@limited
def continue_run(run_id: str):
    """One sample and on, with the seed it had."""
    parent = find_run(run_id)
    view, service = state().look(parent), state().service
    require_done(view.log, Refusal("This run is still being written; it can be continued when it is done."))
    number = whole_number("sample") if "sample" in request.form else 0
    beginning = derivation.continue_run(parent, view.log, number, view.vocabulary)
    if size := service.oversize(beginning.ids, view.vocabulary):
        raise Refusal(
            "The text has {size:,} bytes and cannot be continued; the limit is {limit:,}.",
            size=size,
            limit=service.max_prompt,
        )
    least = max(0, parent.options.get("min_new_tokens", 0) - len(view.log.samples[number]))
    sampling = sampling_of(parent, samples=1, min_new_tokens=least, **to_write(parent))
    return to_run(service.start(state().models.find_for(parent), beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/fork")
@limited
def fork(run_id: str):
    """The text up to a token and another token there, or `again` from there on; with a new seed, as a run of one's own."""
    parent = find_run(run_id)
    view, service = state().look(parent), state().service
    number = None if request.form.get("sample") == "prompt" else whole_number("sample")
    token = whole_number("token") if request.form.get("token") else None
    folder = state().models.find_for(parent)
    beginning = derivation.fork(parent, view.log, number, whole_number("place"), token, folder)
    if size := service.oversize(beginning.ids, view.vocabulary):
        raise Refusal(
            "The text has {size:,} bytes and cannot be forked there; the limit is {limit:,}.",
            "place",
            size=size,
            limit=service.max_prompt,
        )
    sampling = sampling_of(parent, samples=1, **to_write(parent), seed=secrets.randbelow(2**32))
    return to_run(service.start(folder, beginning, sampling, make_visitor()))


@blueprint.post("/r/<run_id>/stop")
def stop(run_id: str):
    """End a run; only who started it may."""
    run = find_run(run_id)
    require_owner(run.owner, Refusal("Only the visitor who started this run can stop it."))
    state().service.stop(run)
    if is_fragment():
        return Response(status=204)  # the stream brings the news
    return to_run(run_id)
