"""What this server's engine writes goes to the database, four times a second, all runs in one transaction."""

import logging

from sqlalchemy import func, insert, select, update

from generate import Engine, FinishReason, RunState, Withdrawal
from webapp.runs import lease
from webapp.runs.full import DiskFull
from webapp.runs.registry import Clock, Entry, Registry
from webapp.runs.repository import each_alone, end_sample, withdrawn
from webapp.runs.tables import Block, Progress, Run, db

log = logging.getLogger(__name__)


class Recorder:
    """Stores the runs that are this server's, which its `engine` writes; None where there is none, and so no such run."""

    def __init__(self, server: str, registry: Registry, clock: Clock, engine: Engine | None):
        self._server, self._registry, self._clock, self._engine = server, registry, clock, engine

    def save_round(self) -> None:
        """Store what is new in our runs' logs, renew their leases, and hear who wants them stopped.

        When that fails, each is tried alone: no run holds up the others, and one whose saving succeeded without our
        being told goes on from what is there. Raises DiskFull where there is no room; then all of it waits here for
        the next round, as nothing leaves a log before it is stored.
        """
        ours = self._registry.ours()
        if not ours:
            return

        def save_alone(run_id: str) -> None:
            count_again(run_id, ours[run_id])
            self.save({run_id: ours[run_id]})

        try:
            self.save(ours)
        except DiskFull:
            db.session.rollback()
            raise
        except Exception:
            log.exception("the runs could not be stored together; trying each alone")
            db.session.rollback()
            each_alone(ours, save_alone, "run %s could not be stored; trying again")

    def save(self, ours: dict[str, Entry]) -> None:
        """One transaction over some of our runs. What follows from it is done only once it is committed."""
        held = lease.renew(self._server, ours, self._clock.now())
        stored = {run_id: store_news(run_id, entry) for run_id, entry in ours.items() if run_id in held}
        blocks = [block for *_, found in stored.values() for block in found]
        if blocks:  # those of all runs at once, past the ORM: with many of them it is most of a saving's work
            db.session.execute(insert(Block.__table__), blocks)
        lost = {run_id: Withdrawal.MOVED for run_id in ours if run_id not in held}
        lost |= withdrawn(lost)
        db.session.commit()
        for run_id, (counts, done, told, _) in stored.items():
            entry = ours[run_id]
            entry.saved, entry.told = counts, told
            entry.prompt_saved = entry.prompt_saved or told.prompt_known or done
            if held[run_id]:
                self._engine.cancel(entry.log, FinishReason(held[run_id]))
            if done:
                self._registry.drop(run_id, entry)
        for run_id, why in lost.items():
            ours[run_id].log.withdraw(why)
            self._engine.cancel(ours[run_id].log)
            self._registry.drop(run_id, ours[run_id])
        if any(
            why is not Withdrawal.MOVED for why in lost.values()
        ):  # what was written until now is remembered as it ends
            self._engine.forget()

    def release(self) -> None:
        """This server ends: others may go on with its runs at once."""
        lease.give_up(self._server, self._registry.ours(), self._clock.now())
        db.session.commit()


def count_again(run_id: str, entry: Entry) -> None:
    """Find out how many tokens of each sample the database holds."""
    sizes = select(Block.number, func.sum(func.length(Block.tokens))).where(Block.run_id == run_id)
    found = dict(db.session.execute(sizes.group_by(Block.number)).all())
    item = entry.log.prompt.dtype.itemsize
    entry.saved = [int(found.get(number, 0)) // item for number in range(len(entry.log.samples))]
    entry.prompt_saved, entry.told = False, None


def store_news(run_id: str, entry: Entry) -> tuple[list[int], bool, Progress, list[dict]]:
    """Add what is new in a log to the transaction, but for its tokens; return how many of each sample are then stored, if
    it is done, its progress, and the rows of its tokens, which are still to be added."""
    run_log = entry.log
    with run_log.changed:
        done = run_log.done
        told = Progress.of(run_log, entry.viewers + entry.elsewhere)
        news = [
            (sample.read(saved), sample.released, sample.finish_reason, sample.text_end, sample.error)
            for saved, sample in zip(entry.saved, run_log.samples, strict=True)
        ]
        blocked = [
            {place: ids for place, ids in sample.blocked.items() if place >= saved}
            for saved, sample in zip(entry.saved, run_log.samples, strict=True)
        ]
    blocks = [
        {"run_id": run_id, "number": n, "start": entry.saved[n], "tokens": records.tobytes(), "released": released}
        | {"blocked": blocked[n] or None}
        for n, (records, released, *_) in enumerate(news)
        if len(records)
    ]
    for number, (_, _, reason, text_end, error) in enumerate(news):
        if reason:
            end_sample(run_id, number, reason, text_end, error)
    change = {}
    if told != entry.told:
        change |= {"progress": told.as_json(), "precision": run_log.precision, "device": run_log.device}
        change |= {"fingerprint": run_log.fingerprint} if run_log.fingerprint else {}
    if (told.prompt_known or done) and not entry.prompt_saved:
        change["prompt"] = run_log.prompt.tobytes()
    if done:
        change |= {"state": RunState.DONE, "holder": None, "words": None}
    if change:
        db.session.execute(update(Run).where(Run.id == run_id).values(**change), execution_options=lease.CHANGE)
    counts = [saved + len(records) for saved, (records, *_) in zip(entry.saved, news, strict=True)]
    return counts, done, told, blocks
