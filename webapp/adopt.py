"""Runs that nobody writes: whoever has readers for one goes on with it; what nobody watches is ended."""

import time

from sqlalchemy import delete, select, update

from generate import Busy, Refusal, Request, find_model, parse_sampling
from webapp import lease
from webapp.database import Run, Watch, db
from webapp.record import end_sample
from webapp.store import find_vocabulary, stored_log, vocabulary_id
from webapp.tail import AWAY, append, new_blocks, read_progress


def adopt(live) -> None:
    """Go on with runs that are watched here and whose server has fallen silent."""
    if live.engine is None:
        return
    entries = {run_id: e for run_id, e in live.entries().items() if not e.ours and is_watched(live, e)}
    if not entries:
        return
    free = select(Run).where(Run.id.in_(entries), Run.state == "writing", Run.lease_until < time.time())
    for run in db.session.scalars(free).all():
        if run.stop_asked:
            end(live, run, run.stop_asked)
        else:
            go_on(live, run, entries[run.id])


def go_on(live, run: Run, entry) -> None:
    """Take over a run and let our engine write on, from its last stored token."""
    try:
        folder = find_model(live.app.config["MODELS"], run.model)
        if folder.fingerprint() != run.fingerprint or vocabulary_id(folder.tokenizer.vocabulary) != run.vocabulary_id:
            raise Refusal(f"The model {run.model} was replaced by another while this was being written.")
    except Refusal as refusal:
        end(live, run, "error", f"{refusal} What was written is kept.")
        return
    if not lease.take(live.server, run.id):
        db.session.rollback()
        return
    for block in db.session.scalars(new_blocks({run.id: entry})):  # what was stored since we last looked
        append(entry.log, block)
    read_progress(entry, run)
    db.session.commit()
    sampling = parse_sampling(run.options)
    request = Request(folder, tuple(entry.log.prompt["id"].tolist()), sampling, run.first_sample, run.owner)
    entry.saved = [len(sample) for sample in entry.log.samples]
    try:
        live.engine.submit(request, entry.log)
        entry.ours = True
    except Busy:  # the line is full; another server may have room, or we in a while
        lease.give_up(live.server, [run.id])
        db.session.commit()


def stop_unwatched(live) -> None:
    """End our own runs that nobody has watched for the grace time."""
    for entry in live.entries().values():
        if entry.viewers or entry.elsewhere:
            entry.seen = time.monotonic()
        elif entry.ours and not is_watched(live, entry):
            live.engine.cancel(entry.log, "unwatched")


def is_watched(live, entry) -> bool:
    return entry.viewers > 0 or time.monotonic() - entry.seen <= live.grace


def reap(live) -> None:
    """End abandoned runs that nobody watches anywhere, or that somebody has stopped."""
    now = time.time()
    db.session.execute(delete(Watch).where(Watch.seen < now - 10 * AWAY))
    watched = select(Watch.run_id).where(Watch.seen > now - AWAY)
    here = [run_id for run_id, entry in live.entries().items() if is_watched(live, entry)]
    abandoned = (Run.state == "writing") & (Run.lease_until < now)
    stopped = select(Run).where(abandoned, Run.stop_asked.is_not(None))
    for run in db.session.scalars(stopped).all():
        end(live, run, run.stop_asked)
    if time.monotonic() - live.born > live.grace:  # readers need a while to come back to a server that was down
        long_ago = Run.lease_until < now - live.grace
        silent = select(Run).where(abandoned, long_ago, Run.id.not_in(watched), Run.id.not_in(here))
        for run in db.session.scalars(silent).all():
            end(live, run, "unwatched")
    db.session.commit()


def end(live, run: Run, reason: str, error: str | None = None) -> None:
    """End an abandoned run where it stands."""
    if not lease.take(live.server, run.id):
        db.session.rollback()
        return
    log, vocabulary = stored_log(run), find_vocabulary(run.vocabulary_id)
    for number, sample in enumerate(log.samples):
        if sample.finish_reason is None:
            end_sample(run.id, number, reason, len(vocabulary.bytes_of(sample.read()["id"].tolist())), error)
    db.session.execute(update(Run).where(Run.id == run.id).values(state="done", holder=None, words=None))
    db.session.commit()
