"""One token looked at closely: what else the model thought of at its place, and what the sampler made of it.

Everything comes from the run's log; the model is not asked again.
"""

import math

import numpy as np

from webapp.runs.probabilities import alternatives
from webapp.views.run_view import RunView
from webapp.views.sentences import share
from webapp.views.tokens import BLANKS, escape

WIDTHS = (("width", "logprob"), ("allowed_width", "sampled"))


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
