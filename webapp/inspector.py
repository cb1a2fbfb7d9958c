"""One token looked at closely: what else the model thought of at its place, and what the sampler made of it.

Everything comes from the run's log; the model is not asked again.
"""

import math

import numpy as np
from flask import Blueprint, Response, abort, render_template, request

from webapp.runs.probabilities import alternatives
from webapp.runs.repository import find_run
from webapp.views.run_view import RunView, look
from webapp.views.sentences import share
from webapp.views.tokens import BLANKS, escape

blueprint = Blueprint("inspector", __name__)


@blueprint.get("/r/<run_id>/token")
def token(run_id: str):
    """The panel for a token: `?sample=` (a number, or `prompt`) and `?place=` from its first token, from 0."""
    run = find_run(run_id)
    view = look(run)
    number = None if request.args.get("sample") == "prompt" else request.args.get("sample", type=int)
    place = request.args.get("place", type=int)
    records = spoken(view, number)
    if records is None or place is None or not (0 <= place < len(records)):
        abort(404, "There is no such token in this run.")
    before = records["id"][:place] if number is None else np.append(view.prompt_ids, records["id"][:place])
    facts = describe(view, records[place], before) | {"sample": "prompt" if number is None else number, "place": place}
    return Response(render_template("partials/token_panel.html", run=run, done=view.log.done, **facts))


def spoken(view: RunView, number: int | None) -> np.ndarray | None:
    """The records of the prompt, or of what a sample has shown so far."""
    if number is None:
        return view.log.prompt if request.args.get("sample") == "prompt" else None
    if not 0 <= number < len(view.log.samples):
        return None
    sample = view.log.samples[number]
    return sample.read(0, sample.released)


def describe(view: RunView, record: np.void, before: np.ndarray) -> dict:
    """What the panel says of a token, in words and bars."""
    others = alternatives(record, view.options, before)
    known = bool(record["rank"])
    listed = [one["id"] for one in others]
    bars = [bar(view, one, one["id"] == record["id"]) for one in others]
    if known and int(record["id"]) not in listed:
        own = {"id": int(record["id"]), "logprob": float(record["logprob"]), "rank": int(record["rank"]), "cut": False}
        sampled = float(record["sampled_logprob"])
        bars.append(bar(view, own | {"sampled": None if math.isnan(sampled) else sampled}, True))
    return {
        "shown": named(view, int(record["id"])),
        "known": known,
        "share": share(float(record["logprob"])) if known else None,
        "sampled": share(float(record["sampled_logprob"])),
        "rank": int(record["rank"]),
        "entropy": float(record["entropy"]),
        "bars": bars,
        "cut": any(one["cut"] for one in others),
        "any_sampled": any(one["sampled"] is not None for one in others),
    }


def bar(view: RunView, one: dict, here: bool) -> dict:
    """One alternative: its name, both probabilities in words and as widths from 0 to 100."""
    widths = {name: 100 * math.exp(one[key]) if one[key] is not None else 0.0 for name, key in WIDTHS}
    words = {"share": share(one["logprob"]), "allowed": "" if one["sampled"] is None else share(one["sampled"])}
    return one | widths | words | {"here": here, "name": named(view, one["id"])}


WIDTHS = (("width", "logprob"), ("allowed_width", "sampled"))


def named(view: RunView, index: int) -> str:
    """HTML of a token by itself: its text with its white space made visible, or the bytes of a half character."""
    data = view.vocabulary.tokens[index]
    if not data:
        return '<i class="bytes">end of text</i>'
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f'<i class="bytes">{data.hex(" ").upper()}</i>'
    return "".join(f'<i class="space">{BLANKS[ord(c)]}</i>' if ord(c) in BLANKS else escape(c) for c in text)
