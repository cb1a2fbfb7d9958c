"""The panel of one token."""

import numpy as np
from flask import Blueprint, Response, abort, render_template, request

from webapp.runs.repository import find_run
from webapp.state import state
from webapp.views.run_view import RunView
from webapp.views.token_panel import describe

blueprint = Blueprint("token", __name__)


@blueprint.get("/r/<run_id>/token")
def token(run_id: str):
    """The panel for a token: `?sample=` (a number, or `prompt`) and `?place=` from its first token, from 0.

    With `?few` only the likeliest three.
    """
    run = find_run(run_id)
    view = state().look(run)
    number = None if request.args.get("sample") == "prompt" else request.args.get("sample", type=int)
    place = request.args.get("place", type=int)
    records = spoken(view, number)
    if records is None or place is None or not (0 <= place < len(records)):
        abort(404, "There is no such token in this run.")
    before = records["id"][:place] if number is None else np.append(view.prompt_ids, records["id"][:place])
    blocked = (view.log if number is None else view.log.samples[number]).blocked.get(place, ())
    facts = describe(view, records[place], before, number is not None, blocked) | {
        "sample": "prompt" if number is None else number,
        "place": place,
    }
    name = "few" if "few" in request.args else "panel"
    return Response(render_template(f"partials/token_{name}.html", run=run, done=view.log.done, **facts))


def spoken(view: RunView, number: int | None) -> np.ndarray | None:
    """The records of the prompt, or of what a sample has shown so far."""
    if number is None:
        return view.log.prompt if request.args.get("sample") == "prompt" else None
    if not 0 <= number < len(view.log.samples):
        return None
    sample = view.log.samples[number]
    return sample.read(0, sample.released)
