"""Runs that another server writes: what it stores is read into our log of the run, so that it can be watched here.

A reader here is behind by the time until the other's next saving and until our next look: half a second at the most, a
quarter on average.
"""

from collections.abc import Iterator

import numpy as np
from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import defer

from generate import RunLog, RunState, Withdrawal
from webapp.runs.registry import Clock, Entry, Registry
from webapp.runs.repository import withdrawn
from webapp.runs.tables import Block, Progress, Run, Sample, Watch, db

AWAY = 6.0  # seconds after which another server's word on who watches there counts no more
AT_ONCE = 200  # samples asked for in one query; SQLite takes at most 1,000 conditions


class Follower:
    """Keeps this server's logs of other servers' runs up to date, and tells those servers who watches here."""

    def __init__(self, server: str, registry: Registry, clock: Clock):
        self._server, self._registry, self._clock = server, registry, clock

    def follow(self) -> None:
        """Bring the logs of runs that others write up to date."""
        entries = self._registry.others()
        if not entries:
            return
        catch_up(entries, self._clock.now())
        for run_id, entry in entries.items():
            if entry.log.done:
                self._registry.drop(run_id, entry)
            else:
                self._registry.drop_unwatched(run_id, entry)

    def tell_viewers(self) -> None:
        """Tell the servers that write how many watch here, and hear the same of our runs."""
        now, entries = self._clock.now(), self._registry.entries()
        mine = {run_id: entry.viewers for run_id, entry in entries.items() if not entry.ours and entry.viewers}
        kept = set(db.session.scalars(select(Watch.run_id).where(Watch.server == self._server)))
        for run_id, viewers in mine.items():
            db.session.merge(Watch(run_id=run_id, server=self._server, viewers=viewers, seen=now))
        if stale := kept - mine.keys():
            db.session.execute(delete(Watch).where(Watch.server == self._server, Watch.run_id.in_(stale)))
        ours = [run_id for run_id, entry in entries.items() if entry.ours]
        counts = select(Watch.run_id, func.sum(Watch.viewers)).where(Watch.run_id.in_(ours), Watch.seen > now - AWAY)
        found = dict(db.session.execute(counts.group_by(Watch.run_id)).all()) if ours else {}
        db.session.commit()
        for run_id in ours:
            entries[run_id].elsewhere = int(found.get(run_id, 0))


def catch_up(entries: dict[str, Entry], now: float) -> None:
    """Read what was stored since the last look; `now` is the database's time.

    A sample's end is asked for before its blocks: none is missing then.
    """
    samples = select(Sample).where(Sample.run_id.in_(entries), Sample.finish_reason.is_not(None))
    ended = db.session.scalars(samples.execution_options(populate_existing=True)).all()
    facts = select(Run).where(Run.id.in_(entries)).options(defer(Run.prompt), defer(Run.words))
    runs = {run.id: run for run in db.session.scalars(facts.execution_options(populate_existing=True))}
    for block in new_blocks(entries):
        append(entries[block.run_id].log, block)
    gone = withdrawn(run_id for run_id in entries if run_id not in runs)
    for run_id, entry in entries.items():
        if run_id not in runs:
            entry.log.withdraw(gone.get(run_id, Withdrawal.DELETED))
        elif runs[run_id].hidden:
            entry.log.withdraw(Withdrawal.TAKEN_DOWN)
        else:
            read_progress(entry, runs[run_id], now)
    for sample in ended:
        log = entries[sample.run_id].log
        log.finish(log.samples[sample.number], sample.finish_reason, sample.text_end, sample.problem)


def new_blocks(entries: dict[str, Entry]) -> Iterator[Block]:
    """What was stored past what our logs hold."""
    wanted = [
        and_(Block.run_id == run_id, Block.number == number, Block.start >= len(sample))
        for run_id, entry in entries.items()
        for number, sample in enumerate(entry.log.samples)
        if sample.finish_reason is None
    ]
    for place in range(0, len(wanted), AT_ONCE):
        some = select(Block).where(or_(*wanted[place : place + AT_ONCE]))
        yield from db.session.scalars(some.order_by(Block.run_id, Block.number, Block.start))


def append(log: RunLog, block: Block) -> None:
    """Add a stored block to our log, unless the log has gone on meanwhile."""
    sample = log.samples[block.number]
    with log.changed:
        if block.start == len(sample):
            sample.append(np.frombuffer(block.tokens, log.prompt.dtype), block.released)
            log.touch()


def read_progress(entry: Entry, run: Run, now: float) -> None:
    """Take over what the run's row says of it."""
    log, entry.told = entry.log, Progress.from_json(run.progress)
    log.precision, log.device, log.fingerprint = run.precision, run.device, run.fingerprint
    log.restarts = entry.told.restarts
    if not entry.prompt_saved and (entry.told.prompt_known or run.state == RunState.DONE):
        log.learn(0, np.frombuffer(run.prompt, log.prompt.dtype))
        log.close_prompt()
        entry.prompt_saved = True
    if run.state == RunState.WRITING:
        show_state(log, run, now)


def show_state(log: RunLog, run: Run, now: float) -> None:
    """The state that the writing server tells, while it lives."""
    told = Progress.from_json(run.progress)
    if run.lease_until < now:
        log.set_state(RunState.PAUSED)
    else:
        log.set_state(told.state if told.state != RunState.DONE else RunState.WRITING, told.place, told.seconds)
