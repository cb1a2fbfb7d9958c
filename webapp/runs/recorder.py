"""What this server's engine writes goes to the database, four times a second, all runs in one transaction."""

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, update

from webapp.runs import lease
from webapp.runs.tables import Block, Gone, Run, Sample, db

if TYPE_CHECKING:
    from webapp.runs.registry import Entry
    from webapp.runs.scheduler import Live

log = logging.getLogger(__name__)


def save_round(live: "Live") -> None:
    """Store what is new in our runs' logs, renew their leases, and hear who wants them stopped.

    When that fails, each is tried alone: no run holds up the others, and one whose saving succeeded without our being
    told goes on from what is there.
    """
    ours = live.registry.ours()
    if not ours:
        return
    try:
        save(live, ours)
    except Exception:
        log.exception("the runs could not be stored together; trying each alone")
        for run_id, entry in ours.items():
            try:
                db.session.rollback()
                count_again(run_id, entry)
                save(live, {run_id: entry})
            except Exception:
                log.exception("run %s could not be stored; trying again", run_id)
        db.session.rollback()


def count_again(run_id: str, entry: "Entry") -> None:
    """Find out how many tokens of each sample the database holds."""
    sizes = select(Block.number, func.sum(func.length(Block.tokens))).where(Block.run_id == run_id)
    found = dict(db.session.execute(sizes.group_by(Block.number)).all())
    item = entry.log.prompt.dtype.itemsize
    entry.saved = [int(found.get(number, 0)) // item for number in range(len(entry.log.samples))]
    entry.prompt_saved, entry.told = False, {}


def save(live: "Live", ours: dict[str, "Entry"]) -> None:
    """One transaction over some of our runs."""
    held = lease.renew(live.server, ours, live.clock.now())
    stored = {run_id: store_news(run_id, entry) for run_id, entry in ours.items() if run_id in held}
    lost = {run_id: "moved" for run_id in ours if run_id not in held}
    if lost:
        lost |= dict.fromkeys(db.session.scalars(select(Gone.id).where(Gone.id.in_(lost))), "deleted")
    db.session.commit()
    for run_id, (counts, done, told) in stored.items():
        entry = ours[run_id]
        entry.saved, entry.told = counts, told
        entry.prompt_saved = entry.prompt_saved or any(counts) or done
        if held[run_id]:
            live.engine.cancel(entry.log, held[run_id])
        if done:
            live.registry.drop(run_id, entry)
    for run_id, reason in lost.items():
        live.engine.cancel(ours[run_id].log, reason)
        live.registry.drop(run_id, ours[run_id])


def store_news(run_id: str, entry: "Entry") -> tuple[list[int], bool, dict]:
    """Add what is new in a log to the transaction; return tokens stored of each sample, if it is done, its progress."""
    run_log = entry.log
    with run_log.changed:
        done = run_log.done
        told = {"state": run_log.state, "place": run_log.place, "seconds": run_log.seconds and round(run_log.seconds)}
        told |= {"restarts": run_log.restarts, "watching": entry.viewers + entry.elsewhere}
        news = [
            (sample.read(entry.saved[n]), sample.released, sample.finish_reason, sample.text_end, sample.error)
            for n, sample in enumerate(run_log.samples)
        ]
    blocks = [
        {"run_id": run_id, "number": n, "start": entry.saved[n], "tokens": records.tobytes(), "released": released}
        for n, (records, released, *_) in enumerate(news)
        if len(records)
    ]
    if blocks:
        db.session.execute(insert(Block), blocks)
    for number, (_, _, reason, text_end, error) in enumerate(news):
        if reason:
            end_sample(run_id, number, reason, text_end, error)
    change = {}
    if told != entry.told:
        change |= {"progress": told, "precision": run_log.precision, "device": run_log.device}
        change |= {"fingerprint": run_log.fingerprint} if run_log.fingerprint else {}
    if (
        blocks or done
    ) and not entry.prompt_saved:  # what the model thought of the prompt is there with the first token
        change["prompt"] = run_log.prompt.tobytes()
    if done:
        change |= {"state": "done", "holder": None, "words": None}
    if change:
        db.session.execute(update(Run).where(Run.id == run_id).values(**change), execution_options=lease.CHANGE)
    return [saved + len(records) for saved, (records, *_) in zip(entry.saved, news, strict=True)], done, told


def end_sample(run_id: str, number: int, reason: str, text_end: int, error: str | None) -> None:
    which = (Sample.run_id == run_id) & (Sample.number == number) & Sample.finish_reason.is_(None)
    change = update(Sample).where(which).values(finish_reason=reason, text_end=text_end, error=error)
    db.session.execute(change, execution_options=lease.CHANGE)


def release(live: "Live") -> None:
    """This server ends: others may go on with its runs at once."""
    lease.give_up(live.server, live.registry.ours(), live.clock.now())
    db.session.commit()
