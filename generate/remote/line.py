"""The line before engines behind addresses: rows are shared out here as by the engine of this machine, and those behind
get no more than was let in."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from generate.folders.model_folder import ModelFolder
from generate.interface.engine import Outlook
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import RunState
from generate.sampling.options import Sampling
from generate.sampling.records import unknown_records
from generate.scheduling.pace import smooth
from generate.scheduling.queue import Queue, Ticket

TYPICAL_TOKENS = 200  # of a run that might come
FIRST_GUESS = 0.02  # seconds a token, before any was written
NEWCOMER = Request(None, Sampling(), owner="whoever comes next")


@dataclass(eq=False)
class Job:
    """A run of which some sample was let in. `waiting` are its samples that were not yet, by their numbers."""

    ticket: Ticket
    waiting: list[int]
    tasks: dict[int, asyncio.Task] = field(default_factory=dict)
    reading: asyncio.Task | None = None
    paused: bool = False  # an engine failed it, and none has written since

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.ticket.request

    @property
    def run(self) -> RunLog:
        """Its log."""
        return self.ticket.log


class Line:
    """Who has rows, who waits, and how long. Its caller holds a lock around all of it."""

    def __init__(self, max_rows: int, max_waiting: int):
        self.max_rows, self.max_waiting = max_rows, max_waiting
        self.queue, self.jobs = Queue(), {}  # RunLog -> Job
        self._pace: float | None = None  # seconds that a row takes for a token

    @property
    def rows(self) -> int:
        """How many are taken."""
        return sum(len(job.tasks) for job in self.jobs.values())

    def add(self, request: Request, run: RunLog) -> None:
        """Put a run in line."""
        waiting = len(self.queue.waiting) if request.yields else self.queue.waiting_runs
        self.queue.add(Ticket(request, run, ended=sum(sample.finish_reason is not None for sample in run.samples)))
        run.set_state(RunState.WAITING, waiting + 1)

    def is_full(self, yields: bool = False) -> bool:
        """Whether no run would be taken now, of one that `yields` or of any other."""
        waiting = len(self.queue.waiting) if yields else self.queue.waiting_runs
        return waiting >= self.max_waiting

    def next(self, fits: Callable[[ModelFolder], bool]) -> Job | None:
        """The job of which one more sample may begin, which is its first in `waiting`; None where there is none."""
        held = Counter()
        for job in self.jobs.values():
            held[job.request.owner] += len(job.tasks)
        if held.total() >= self.max_rows:
            return None
        ticket = self.queue.next(held, lambda ticket: fits(ticket.request.folder))
        if ticket is None:
            return None
        job = self.jobs.get(ticket.log)
        if job is None:
            open_samples = [number for number, one in enumerate(ticket.log.samples) if one.finish_reason is None]
            job = self.jobs[ticket.log] = Job(ticket, open_samples[:1] if ticket.request.only_reads else open_samples)
        self.queue.grant(ticket)
        return job

    def in_the_way(self, fits: Callable[[ModelFolder], bool]) -> Job | None:
        """The newest run that yields, where one that does not could have its rows."""
        wanted = any(not one.request.yields and fits(one.request.folder) for one in self.queue.tickets)
        yielding = [job for job in self.jobs.values() if job.request.yields]
        return yielding[-1] if wanted and yielding and self.rows >= self.max_rows else None

    def remove(self, run: RunLog) -> Job | None:
        """Take a run out, whose samples have ended or shall end; returns its job, if it had begun."""
        for ticket in [ticket for ticket in self.queue.tickets if ticket.log is run]:
            self.queue.remove(ticket)
        return self.jobs.pop(run, None)

    def note_pace(self, seconds: float, tokens: int) -> None:
        """A row has written so many tokens in so many seconds."""
        self._pace = smooth(self._pace, seconds / tokens)

    def tell(self) -> Outlook:
        """Tell everybody who waits a place and an estimate; returns how busy it is."""
        pace = self._pace or FIRST_GUESS
        running = [
            (pace * job.request.sampling.max_new_tokens, job.request.owner)
            for job in self.jobs.values()
            if not job.request.yields
            for _ in job.tasks
        ]
        free = max(0, self.max_rows - len(running))
        for ticket in self.queue.tickets:
            ticket.seconds = pace * max(1, ticket.request.sampling.max_new_tokens)
        for forecast in self.queue.forecast(running, free):
            forecast.ticket.log.set_state(RunState.WAITING, forecast.place, forecast.seconds)
        newcomer = Ticket(NEWCOMER, RunLog(unknown_records((), 1), 1), TYPICAL_TOKENS * pace)
        played = self.queue.forecast(running, free, newcomer)
        seconds = next((forecast.seconds for forecast in played if forecast.ticket is newcomer), None)
        writing = sum(not job.request.yields for job in self.jobs.values())
        return Outlook(writing, self.queue.waiting_runs, seconds)
