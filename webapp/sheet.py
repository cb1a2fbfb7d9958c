"""A contact sheet: several samples of one prompt side by side, folded up to where they part; any becomes a page."""

import secrets
from dataclasses import dataclass

import numpy as np
from flask import Blueprint, abort, redirect, request, url_for
from sqlalchemy import select, update

from generate import CharacterGate, Refusal, RunLog, Vocabulary
from webapp.http.security import limited
from webapp.http.visitors import make_visitor
from webapp.pages import look
from webapp.runs.lease import CHANGE
from webapp.runs.repository import find_run
from webapp.runs.tables import Block, Run, Sample, db
from webapp.views.run_view import RunView, SampleView

blueprint = Blueprint("sheet", __name__)

WORTH_FOLDING = 8  # tokens; a few words are read more quickly than a note that they are the same


# Where they part


def common_beginning(samples: list[np.ndarray], vocabulary: Vocabulary, half: bytes = b"") -> int:
    """How many tokens all samples begin with (each given by its ids), those without any left aside.

    Whole characters only; `half` is the half character that the prompt ended in, if any.
    """
    begun = [ids for ids in samples if len(ids)]
    if len(begun) < 2:
        return 0
    shortest = min(map(len, begun))
    first = begun[0][:shortest]
    same = np.logical_and.reduce([ids[:shortest] == first for ids in begun])
    return whole_characters(first if same.all() else first[: np.argmin(same)], vocabulary, half)


def whole_characters(ids: np.ndarray, vocabulary: Vocabulary, half: bytes = b"") -> int:
    """How many of these tokens can be shown before the text is cut inside a character."""
    gate, whole = CharacterGate(), 0
    gate.feed(half)
    for place, index in enumerate(ids.tolist(), 1):
        if gate.feed(vocabulary.tokens[index]) == 0:
            whole = place
    return whole


@dataclass(frozen=True)
class Sheet:
    """What samples have in common: `common` tokens, `folded` where that is worth it; or they are all the `same`."""

    common: int
    folded: bool
    same: bool
    samples: list[dict]  # as `pages.start_samples` makes them; `html` is cut into `beginning` and `rest`


@blueprint.app_context_processor
def sheet_facts() -> dict:
    return {"contact_sheet": contact_sheet}


def contact_sheet(view: RunView, samples: list[dict], done: bool) -> Sheet:
    """Cut each sample's HTML where they part; while they are being written nothing is cut, for the stream appends."""
    if not done:
        return Sheet(0, False, False, [one | {"beginning": "", "rest": one["html"]} for one in samples])
    ids = [sample.read()["id"] for sample in view.log.samples]
    common = common_beginning(ids, view.vocabulary, view.half)
    same = len({one.tobytes() for one in ids}) == 1
    common = 0 if same else common
    return Sheet(common, common >= WORTH_FOLDING, same, [one | cut(view, one, common) for one in samples])


def cut(view: RunView, sample: dict, common: int) -> dict:
    """The HTML of a sample's first `common` tokens, and of the rest."""
    if not common or not len(view.log.samples[sample["number"]]):
        return {"beginning": "", "rest": sample["html"]}
    rest = SampleView(view, sample["number"], sent=common).news() or ""
    return {"beginning": sample["html"].removesuffix(rest) if rest else sample["html"], "rest": rest}


# A page of its own


@blueprint.post("/r/<run_id>/pick")
@limited
def pick(run_id: str):
    """Give one finished sample a page of its own; a second click leads to the same page."""
    parent = find_run(run_id)
    log = look(parent).log
    text = request.form.get("sample", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else len(log.samples)
    if number >= len(log.samples):
        raise Refusal(f"sample must be a whole number from 0 to {len(log.samples) - 1}, not {text[:40]!r}.", "sample")
    if len(log.samples) == 1:
        return redirect(url_for("pages.run_page", run_id=parent.id), 303)  # it has its page already
    if log.samples[number].finish_reason is None:
        raise Refusal("This sample is still being written; it can have its own page when it is done.")
    owner = make_visitor()
    hold(parent.id)
    found = find_pick(parent.id, number, owner) or make_pick(parent, log, number, owner)
    db.session.commit()
    return redirect(url_for("pages.run_page", run_id=found), 303)


def hold(run_id: str) -> None:
    """Lock a run's row until the transaction ends, so that two clicks at once make one page; aborts if it is gone."""
    lock = update(Run).where(Run.id == run_id).values(parent_id=Run.parent_id)
    if db.session.execute(lock, execution_options=CHANGE).rowcount == 0:
        db.session.rollback()
        find_run(run_id)
        abort(404)


def find_pick(parent_id: str, number: int, owner: str) -> str | None:
    """The visitor's page of a sample, if there is one."""
    mine = (Run.parent_id == parent_id) & (Run.parent_sample == number) & (Run.owner == owner)
    return db.session.scalar(select(Run.id).where(mine, Run.relation == "pick").order_by(Run.created).limit(1))


def make_pick(parent: Run, log: RunLog, number: int, owner: str) -> str:
    """Add a run that is one sample of another, as if it had been asked for alone; return its id. Does not commit.

    Its number in the noise is the sample's, so that it can be continued and replayed.
    """
    run = Run(
        id=secrets.token_urlsafe(12),
        owner=owner,
        state="done",
        model=parent.model,
        fingerprint=log.fingerprint or parent.fingerprint,
        vocabulary_id=parent.vocabulary_id,
        vocab_size=parent.vocab_size,
        n_positions=parent.n_positions,
        precision=log.precision,
        device=log.device,
        options=parent.options | {"samples": 1},
        prompt=log.prompt.tobytes(),
        authors=list(parent.authors),
        first_sample=parent.first_sample + number,
        relation="pick",
        parent_id=parent.id,
        parent_sample=number,
        progress={"restarts": log.restarts} if log.restarts else {},
    )
    sample, records = log.samples[number], log.samples[number].read()
    ending = {"finish_reason": sample.finish_reason, "text_end": sample.text_end, "error": sample.error}
    run.samples = [Sample(number=0, **ending)]
    db.session.add(run)
    db.session.flush()
    if len(records):
        db.session.add(Block(run_id=run.id, number=0, start=0, tokens=records.tobytes(), released=len(records)))
    return run.id
