"""A run to take away: its text, and all that is known of it."""

from flask import Blueprint, Response

from generate import record_as_dict
from webapp.pages import find_run, link_to, look
from webapp.view import RunView

blueprint = Blueprint("exports", __name__)


@blueprint.get("/r/<run_id>.txt")
def text(run_id: str):
    """Prompt and continuation as UTF-8; several samples are parted by a line, as the old scripts did."""
    view = look(find_run(run_id))
    texts = [view.prompt_text + view.text(number) for number in range(len(view.log.samples))]
    if len(texts) > 1:
        texts = [f"======== sample {number} ========\n{body}\n" for number, body in enumerate(texts, 1)]
    return Response("\n".join(texts), mimetype="text/plain")


@blueprint.get("/r/<run_id>.json")
def json(run_id: str):
    """Everything: tokens with ids, bytes, log-probabilities, ranks and alternatives. Numbers not known are null."""
    run = find_run(run_id)
    view = look(run)
    return {
        "id": run.id,
        "url": link_to(run.id)["url"],
        "created": run.created.isoformat() + "Z",
        "state": view.log.state,
        "model": run.model,
        "fingerprint": run.fingerprint,
        "precision": view.log.precision,
        "device": view.log.device,
        "seed": run.options["seed"],
        "options": run.options,
        "first_sample": run.first_sample,
        "parent": {"id": run.parent_id, "sample": run.parent_sample, "relation": run.relation}
        if run.parent_id
        else None,
        "prompt": {"text": view.prompt_text, "unread_tokens": view.unread, "tokens": tokens(view, view.log.prompt)},
        "samples": [sample(view, number) for number in range(len(view.log.samples))],
    }


def sample(view: RunView, number: int) -> dict:
    log = view.log.samples[number]
    return {
        "text": view.text(number),
        "finish_reason": log.finish_reason,
        "error": log.error,
        "tokens": tokens(view, log.read()),
    }


def tokens(view: RunView, records) -> list[dict]:
    return [record_as_dict(record, view.vocabulary) for record in records]
