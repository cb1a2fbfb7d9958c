"""Runs that nobody writes: whoever has readers for one goes on with it; what nobody watches is ended."""

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from generate import Busy, Refusal, Request, find_model, parse_sampling
from webapp.runs import lease
from webapp.runs.follower import AWAY, catch_up
from webapp.runs.recorder import end_sample
from webapp.runs.repository import find_vocabulary, same_vocabulary, stored_log
from webapp.runs.tables import Run, Watch, db

if TYPE_CHECKING:
    from webapp.runs.registry import Entry
    from webapp.runs.scheduler import Live

log = logging.getLogger(__name__)


def adopt(live: "Live") -> None:
    """Go on with runs that are watched here and whose server has fallen silent."""
    if live.engine is None:
        return
    entries = {run_id: e for run_id, e in live.registry.others().items() if e.seen_lately(live.registry.grace)}
    if not entries:
        return
    free = select(Run.id).where(Run.id.in_(entries), Run.state == "writing", Run.lease_until < live.clock.now())
    for run_id in db.session.scalars(free).all():
        try:
            run = db.session.get(Run, run_id)
            if run is not None and run.stop_asked:
                end(live, run, run.stop_asked)
            elif run is not None:
                go_on(live, run, entries[run_id])
        except Exception:  # one that cannot be taken over holds up no other
            db.session.rollback()
            log.exception("run %s could not be taken over; trying again", run_id)


def go_on(live: "Live", run: Run, entry: "Entry") -> None:
    """Take over a run and let our engine write on, from its last stored token."""
    try:
        folder = find_model(live.app.config["MODELS"], run.model)
        if folder.fingerprint() != run.fingerprint or not same_vocabulary(run, folder):
            raise Refusal(f"The model {run.model} was replaced by another while this was being written.")
        sampling = parse_sampling(run.options)
    except Refusal as refusal:
        if live.clock.now() - run.lease_until > live.registry.grace:  # until then another server may have what we lack
            end(live, run, "error", f"{refusal} What was written is kept.")
        return
    if not lease.take(live.server, run.id, live.clock.now()):
        db.session.rollback()
        return
    catch_up(live, {run.id: entry})
    db.session.commit()
    entry.saved = [len(sample) for sample in entry.log.samples]
    request = Request(folder, tuple(entry.log.prompt["id"].tolist()), sampling, run.first_sample, run.owner)
    try:
        if not entry.log.done:
            live.engine.submit(request, entry.log)
            entry.log.note_restart()
        entry.ours = True
    except Busy:  # the line is full; another server may have room, or we in a while
        lease.give_up(live.server, [run.id], live.clock.now())
        db.session.commit()
        entry.log.set_state("paused")


def stop_unwatched(live: "Live") -> None:
    """End our own runs that nobody has watched for the grace time."""
    for entry in live.registry.entries().values():
        if entry.viewers or entry.elsewhere:
            entry.seen = time.monotonic()
        elif entry.ours and not entry.seen_lately(live.registry.grace):
            live.engine.cancel(entry.log, "unwatched")


def reap(live: "Live") -> None:
    """End abandoned runs that nobody watches anywhere, or that somebody has stopped."""
    now = live.clock.now()
    db.session.execute(delete(Watch).where(Watch.seen < now - 10 * AWAY))
    watched = select(Watch.run_id).where(Watch.seen > now - AWAY)
    here = [run_id for run_id, entry in live.registry.entries().items() if entry.seen_lately(live.registry.grace)]
    abandoned = (Run.state == "writing") & (Run.lease_until < now)
    which = [select(Run.id).where(abandoned, Run.stop_asked.is_not(None))]
    if (
        time.monotonic() - live.born > live.registry.grace
    ):  # readers need a while to come back to a server that was down
        long_ago = Run.lease_until < now - live.registry.grace
        which.append(select(Run.id).where(abandoned, long_ago, Run.id.not_in(watched), Run.id.not_in(here)))
    ids = [run_id for query in which for run_id in db.session.scalars(query)]
    db.session.commit()
    for run_id in ids:
        try:
            run = db.session.get(Run, run_id)
            if run is not None:
                end(live, run, run.stop_asked or "unwatched")
        except Exception:
            db.session.rollback()
            log.exception("run %s could not be ended; trying again", run_id)


def end(live: "Live", run: Run, reason: str, error: str | None = None) -> None:
    """End an abandoned run where it stands."""
    if not lease.take(live.server, run.id, live.clock.now()):
        db.session.rollback()
        return
    run_log, vocabulary = stored_log(run), find_vocabulary(run.vocabulary_id)
    for number, sample in enumerate(run_log.samples):
        if sample.finish_reason is None:
            end_sample(run.id, number, reason, sample.size(vocabulary), error)
    change = update(Run).where(Run.id == run.id).values(state="done", holder=None, words=None)
    db.session.execute(change, execution_options=lease.CHANGE)
    db.session.commit()
