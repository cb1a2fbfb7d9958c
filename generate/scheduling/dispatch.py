"""Between two steps: who leaves the line, who is let in, and which models are loaded for those who wait."""

import threading
from collections import Counter
from collections.abc import Mapping

from generate.errors import Problem, Refusal, what_failed
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog
from generate.interface.states import FinishReason, RunState
from generate.scheduling.loaded_models import LoadedModels
from generate.scheduling.queue import Queue, Ticket


class Dispatch:
    """Brings runs from the line into the batches of their models. It belongs to the engine's thread.

    `lock` guards the queue, to which other threads add. Of all models together at most `max_rows` samples are let in.
    """

    def __init__(self, queue: Queue, models: LoadedModels, lock: threading.Condition, max_rows: int):
        self._queue, self._models, self._lock, self._max_rows = queue, models, lock, max_rows
        self.blocked: Ticket | None = None  # a run whose model finds no memory until those before it have ended

    # Who leaves

    def end_cancelled(self, asked: Mapping[RunLog, str]) -> None:
        """End runs that were asked to end, each with its reason: out of the line, and out of their models' batches."""
        for run, reason in asked.items():
            for ticket in [ticket for ticket in self._queue.tickets if ticket.log is run]:
                self._leave(ticket, reason)
            for loaded in self._models.holding(run):
                self._models.attempt(loaded, lambda loaded=loaded, run=run, why=reason: loaded.batch.cancel(run, why))

    def drop_over(self) -> None:
        """Take runs out of the line that need no more rows: all their samples failed with the first, say."""
        for ticket in [ticket for ticket in self._queue.tickets if ticket.log.done]:
            with self._lock:
                self._queue.remove(ticket)

    def abandon_all(self, error: Exception) -> None:
        """End everything with `error`, so that nobody waits for an engine that is gone."""
        with self._lock:
            tickets, self._queue.tickets = self._queue.tickets, []
        for loaded in self._models.all.values():
            loaded.batch.abandon(error)
        for ticket in tickets:
            end(ticket, FinishReason.ERROR, what_failed(error))

    def _refuse(self, folder: ModelFolder, problem: Problem) -> None:
        """End the runs that wait for a model that cannot be had."""
        for ticket in self._queue.waiting:
            if ticket.request.folder.identity == folder.identity:
                self._leave(ticket, FinishReason.ERROR, problem)

    def _leave(self, ticket: Ticket, reason: str, error: Problem | None = None) -> None:
        with self._lock:
            self._queue.remove(ticket)
        if ticket.granted == 0:
            end(ticket, reason, error)

    # Who is let in

    def let_in(self) -> None:
        """Give rows to those in line, one by one, as long as there are any; who yields gives way to who does not."""
        while self._queue.tickets:
            held = self._held()
            free = held.total() < self._max_rows
            with self._lock:
                ticket = self._queue.next(held, lambda ticket, free=free: free and self._fits(ticket))
            if (ticket is None or ticket.request.yields) and (run := self._in_the_way(free)):
                self.end_cancelled({run: FinishReason.YIELDED})
            elif ticket is None:
                return
            else:
                self._admit(ticket)

    def _in_the_way(self, free: bool) -> RunLog | None:
        """The newest run that yields of those whose rows are wanted by one that does not; `free`: some rows are idle."""
        for ticket in self._queue.tickets:
            loaded = self._models.get(ticket.request.folder)
            if ticket.request.yields or loaded is None or self._is_behind(ticket) or (free and loaded.batch.has_room):
                continue
            rows = self._models.admitted() if loaded.batch.has_room else loaded.batch.admitted()
            yielding = [sequence.run for sequence in rows if sequence.request.yields]
            if yielding:
                return yielding[-1]
        return None

    def _held(self) -> Counter:
        """How many rows each owner holds, in all models together."""
        return Counter(sequence.request.owner for sequence in self._models.admitted())

    def _fits(self, ticket: Ticket) -> bool:
        """Whether a run's model has room for one more of its samples."""
        loaded = self._models.get(ticket.request.folder)
        if loaded is None or not loaded.batch.has_room or self._is_behind(ticket):
            return False
        # each run holds its prompt until its last sample is let in, so those are bounded as well
        return ticket.granted > 0 or len(loaded.batch.prefills) < self._max_rows

    def _is_behind(self, ticket: Ticket) -> bool:
        """Whether a run must wait for an earlier one whose model finds no memory yet; else that would wait for ever."""
        tickets, blocked = self._queue.tickets, self.blocked
        return blocked in tickets and ticket.granted == 0 and tickets.index(ticket) > tickets.index(blocked)

    def _admit(self, ticket: Ticket) -> None:
        """Let in one sample of a run."""
        loaded, run = self._models.get(ticket.request.folder), ticket.log
        if ticket.granted == 0:
            run.fingerprint, run.device = loaded.fingerprint, self._models.device.type
            run.precision = loaded.model.precision
            loaded.batch.admit(ticket.request, run, count=1)
        else:
            loaded.batch.let_in(run)
        with self._lock:
            self._queue.grant(ticket)

    # What is loaded

    def load_wanted(self) -> None:
        """Begin to load the first model that somebody waits for."""
        self.blocked, before = None, set()
        for ticket in self._queue.waiting:
            folder, loading = ticket.request.folder, self._models.loading
            if self._models.get(folder) is None and loading is None:
                try:
                    if not self._models.start_loading(folder, before):
                        self.blocked = self.blocked or ticket
                except Refusal as refusal:
                    self._refuse(folder, refusal.problem)
                loading = self._models.loading
            if loading is not None and loading.folder.identity == folder.identity:
                ticket.log.set_state(RunState.LOADING)
            before.add(folder.identity)

    def welcome_loaded(self) -> bool:
        """See to a model whose loading has ended; True when one more is there."""
        loading = self._models.collect()
        if loading is not None and loading.problem is not None:
            self._refuse(loading.folder, loading.problem)
        return loading is not None and loading.problem is None


def end(ticket: Ticket, reason: str, error: Problem | None = None) -> None:
    """End a run that no batch has taken in; what it wrote in an earlier life stays."""
    vocabulary = ticket.request.folder.tokenizer.vocabulary
    for sample in ticket.log.samples:
        ticket.log.finish(sample, reason, sample.size(vocabulary), error)
