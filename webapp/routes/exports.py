"""A run to take away: its text, and all that is known of it."""

from flask import Blueprint, Response

from webapp.http.request import link_to
from webapp.runs.repository import find_run
from webapp.state import state
from webapp.views.exports import facts_of, written

blueprint = Blueprint("exports", __name__)


@blueprint.get("/r/<run_id>.txt")
def text(run_id: str):
    """Prompt and continuation as UTF-8; of several samples each stands under a line with its number."""
    view = state().look(find_run(run_id))
    texts = [view.prompt_text + view.text(number) for number in range(len(view.log.samples))]
    if len(texts) > 1:
        texts = [f"======== sample {number} ========\n{body}\n" for number, body in enumerate(texts, 1)]
    return Response("\n".join(texts), mimetype="text/plain")


@blueprint.get("/r/<run_id>.json")
def everything(run_id: str):
    """All that is known: tokens with ids, bytes, log-probabilities, ranks, alternatives. What is not known is null."""
    run = find_run(run_id)
    view = state().look(run)
    return Response(written(facts_of(run, view, link_to(run.id)["url"]), view), mimetype="application/json")
