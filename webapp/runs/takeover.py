"""Runs that nobody writes: whoever has readers for one goes on with it; what nobody watches is ended."""

import time

from sqlalchemy import delete, select, update

from generate import Busy, FinishReason, Problem, Refusal, Request, RunState, parse_sampling
from webapp.runs import lease
from webapp.runs.follower import AWAY, catch_up
from webapp.runs.models import Models
from webapp.runs.registry import Clock, Entry, Registry
from webapp.runs.repository import Vocabularies, each_alone, end_sample, stored_log
from webapp.runs.tables import Run, Watch, db


class Takeover:
    """Takes over what a silent server left."""

    def __init__(self, server: str, registry: Registry, clock: Clock, models: Models, vocabularies: Vocabularies):
        self._server, self._registry, self._clock = server, registry, clock
        self._models, self._vocabularies = models, vocabularies
        self.born = time.monotonic()  # readers of a server that was down need a while to come back to this one

    def take_over(self) -> None:
        """Go on with runs that are watched here and whose server has fallen silent."""
        if self._models.engine is None:
            return
        entries = {i: entry for i, entry in self._registry.others().items() if entry.seen_lately(self._registry.grace)}
        if not entries:
            return
        free = select(Run.id).where(
            Run.id.in_(entries), Run.state == RunState.WRITING, Run.lease_until < self._clock.now()
        )

        def take(run_id: str) -> None:
            run = db.session.get(Run, run_id)
            if run is not None and run.stop_asked:
                self.end(run, run.stop_asked)
            elif run is not None:
                self.resume(run, entries[run_id])

        each_alone(db.session.scalars(free).all(), take, "run %s could not be taken over; trying again")

    def resume(self, run: Run, entry: Entry) -> None:
        """Take over a run and let our engine write on, from its last stored token."""
        try:
            folder = self._models.find(run.model)
            if folder.fingerprint() != run.fingerprint or not self._vocabularies.same(run, folder):
                raise Refusal("The model {name} was replaced by another while this was being written.", name=run.model)
            sampling = parse_sampling(run.options)
            engine = self._models.engine_for(folder, sampling)
        except Refusal as refusal:
            if self._clock.now() - run.lease_until > self._registry.grace:  # until then another may have what we lack
                self.end(run, FinishReason.ERROR, Problem("{reason} What was written is kept.", reason=refusal))
            return
        if not lease.take(self._server, run.id, self._clock.now()):
            db.session.rollback()
            return
        catch_up({run.id: entry}, self._clock.now())
        db.session.commit()
        entry.saved = [len(sample) for sample in entry.log.samples]
        try:
            if not entry.log.done:
                engine.submit(Request(folder, sampling, run.first_sample, run.owner), entry.log)
                entry.log.note_restart()
            entry.ours = True
        except Busy:  # the line is full; another server may have room, or we in a while
            lease.give_up(self._server, [run.id], self._clock.now())
            db.session.commit()
            entry.log.set_state(RunState.PAUSED)
        except Refusal as refusal:  # an engine may find out only now that it cannot do this
            self.conclude(run, FinishReason.ERROR, Problem("{reason} What was written is kept.", reason=refusal))

    def stop_unwatched(self) -> None:
        """End our own runs that nobody has watched for the grace time."""
        for entry in self._registry.entries().values():
            if entry.viewers or entry.elsewhere:
                entry.seen = time.monotonic()
            elif entry.ours and not entry.seen_lately(self._registry.grace):
                self._models.engine.cancel(entry.log, FinishReason.UNWATCHED)

    def reap(self) -> None:
        """End abandoned runs that nobody watches anywhere, or that somebody has stopped."""
        now, grace = self._clock.now(), self._registry.grace
        db.session.execute(delete(Watch).where(Watch.seen < now - 10 * AWAY))
        watched = select(Watch.run_id).where(Watch.seen > now - AWAY)
        entries = self._registry.entries().items()
        here = [i for i, entry in entries if entry.ours or entry.seen_lately(grace)]  # ours may wait to be stored
        abandoned = (Run.state == RunState.WRITING) & (Run.lease_until < now)
        which = [select(Run.id).where(abandoned, Run.stop_asked.is_not(None))]
        if time.monotonic() - self.born > grace:
            long_ago = Run.lease_until < now - grace
            which.append(select(Run.id).where(abandoned, long_ago, Run.id.not_in(watched), Run.id.not_in(here)))
        ids = [run_id for query in which for run_id in db.session.scalars(query)]
        db.session.commit()

        def end(run_id: str) -> None:
            run = db.session.get(Run, run_id)
            if run is not None:
                self.end(run, run.stop_asked or FinishReason.UNWATCHED)

        each_alone(ids, end, "run %s could not be ended; trying again")

    def end(self, run: Run, reason: str, error: Problem | None = None) -> None:
        """End an abandoned run where it stands."""
        if not lease.take(self._server, run.id, self._clock.now()):
            db.session.rollback()
            return
        self.conclude(run, reason, error)

    def conclude(self, run: Run, reason: str, error: Problem | None = None) -> None:
        """Store that a run whose lease is ours has ended where it stands; commits."""
        log, vocabulary = stored_log(run), self._vocabularies.find(run.vocabulary_id)
        for number, sample in enumerate(log.samples):
            if sample.finish_reason is None:
                end_sample(run.id, number, reason, sample.size(vocabulary), error)
        change = update(Run).where(Run.id == run.id).values(state=RunState.DONE, holder=None, words=None)
        db.session.execute(change, execution_options=lease.CHANGE)
        db.session.commit()
