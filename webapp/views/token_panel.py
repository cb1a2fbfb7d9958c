"""One token looked at closely: what else the model thought of at its place, and what the sampler made of it.

Everything comes from the run's log; the model is not asked again.
"""

import math
from collections.abc import Sequence

import numpy as np

from generate import N_, gettext, is_known
from webapp.runs.probabilities import alternatives, place_of
from webapp.views.run_view import RunView
from webapp.views.sentences import not_told, share
from webapp.views.tokens import BLANKS, escape, without_text

WIDTHS = (("width", "logprob"), ("allowed_width", "sampled"))
NUMBERS = ("logprob", "sampled_logprob", "rank", "entropy")  # of a record
TOLD = {
    "logprob": N_("its probability"),
    "rank": N_("its rank"),
    "entropy": N_("the entropy"),
    "cut": N_("what the sampler left"),
}


def describe(view: RunView, record: np.void, before: np.ndarray, written: bool, blocked: Sequence[int] = ()) -> dict:
    """What the panel says of a token, in words and bars; what is not known of it is "" or None, each by itself.

    `before` are the ids of all tokens before it, and `blocked` those that a banned phrase kept out. Only where it was
    `written` a sampler saw it.
    """
    place = place_of(record, view.options, before, view.vocabulary, blocked)
    others = alternatives(record, place)
    own = {name: record[name].item() if is_known(record, name) else None for name in NUMBERS}
    listed = [one["id"] for one in others]
    bars = [bar(view, one | {"rank": ranked(one, others)}, one["id"] == record["id"]) for one in others]
    if own["logprob"] is not None and int(record["id"]) not in listed:
        here = {"id": int(record["id"]), "logprob": own["logprob"], "rank": own["rank"] or "", "cut": False}
        here |= {"cut_by": "", "touched": place.touched(here["id"], here["logprob"]) if place else {}}
        bars.append(bar(view, here | {"sampled": own["sampled_logprob"]}, True))
    return {
        "shown": named(view, int(record["id"])),
        "known": is_known(record),
        "unknown": why_unknown(view, len(before)),
        "untold": not_told(
            [
                gettext(name)
                for field, name in TOLD.items()
                if (written or field != "cut") and not is_known(record, field)
            ]
        ),
        "share": share(own["logprob"]),
        "sampled": share(own["sampled_logprob"]),
        "rank": own["rank"],
        "entropy": own["entropy"],
        "bars": bars,
        "blocked": [named(view, index) for index in blocked],
        "cut": any(one["cut"] for one in others),
        "any_sampled": any(one["sampled"] is not None for one in others),
    }


def why_unknown(view: RunView, place: int) -> str:
    """Why nothing is known of the prompt's token `place`."""
    log = view.log
    if place == 0:
        return gettext("The first token: nothing came before it that could predict it.")
    first = 0 if view.unread.start else view.unread.stop  # of those in the window
    if (
        place not in view.unread and place != first and any(map(len, log.samples))
    ):  # it was read, as something follows it
        return not_told([gettext("what the model thought of the prompt")])
    return gettext("It lies before the model's window and was not read.") if log.done else gettext("It is being read.")


def bar(view: RunView, one: dict, here: bool) -> dict:
    """One alternative: its name, both probabilities in words and as widths from 0 to 100."""
    widths = {name: 100 * math.exp(one[key]) if one[key] is not None else 0.0 for name, key in WIDTHS}
    words = {"share": share(one["logprob"]), "allowed": "" if one["sampled"] is None else share(one["sampled"])}
    return one | widths | words | {"here": here, "name": named(view, one["id"])}


def ranked(one: dict, others: Sequence[dict]) -> int:
    """1 and how many of the alternatives are likelier; of two that are as likely both have the lower number."""
    return 1 + sum(other["logprob"] > one["logprob"] for other in others)


def named(view: RunView, index: int) -> str:
    """HTML of a token by itself: its text with its white space made visible, or the bytes of a half character."""
    data = view.vocabulary.tokens[index]
    if not data:
        return f'<i class="bytes">{without_text(view.vocabulary)}</i>'
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f'<i class="bytes">{data.hex(" ").upper()}</i>'
    return "".join(f'<i class="space">{BLANKS[ord(c)]}</i>' if ord(c) in BLANKS else escape(c) for c in text)
