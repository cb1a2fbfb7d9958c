"""The jobs that a server does again and again, and the threads that do them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flask import Flask

from generate import Engine

log = logging.getLogger(__name__)

ROUND = 0.25  # seconds between two savings, and between two looks at which chore is due
QUIET = (
    60.0  # seconds in which a job that fails in the same way again is not told of: a log may fill what is full already
)


@dataclass(frozen=True)
class Job:
    """Some work that needs an app context, and after how many seconds it is to be done again."""

    name: str
    work: Callable[[], None]
    every: float = ROUND


class Scheduler:
    """Three threads: one that stores, so that nothing holds it up; one for all chores; one for replays.

    `engine` is closed with the server, before the last saving; None where there is none. The thread that stores does
    `save` again and again, and `release` once, at the end.
    """

    def __init__(self, app: Flask, engine: Engine | None, save: Job, release: Job, chores: Iterable[Job], tend: Job):
        self._app, self.engine = app, engine
        self._save, self._release, self._chores, self._tend = save, release, tuple(chores), tend
        self.jobs = {job.name: job for job in (save, release, *self._chores, tend)}
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._quiet: dict[tuple[str, type], float] = {}  # until when (monotonic)
        # False: streams end; gunicorn.conf.py puts a function of its own here
        self.alive: Callable[[], bool] = lambda: not self._closing.is_set()

    def start(self) -> None:
        """Start the threads; call once, in the process that owns the engine."""
        for name, work in (("recorder", self._record), ("keeper", self._keep), ("replays", self._replay)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """End the streams, stop the engine, store what there is, and let other servers go on with it."""
        self._closing.set()
        if self.engine is not None:
            self.engine.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def attempt(self, job: Job) -> None:
        """Do a job once, in an app context. A failure is logged, now and then, and the next round tries again."""
        try:
            with self._app.app_context():
                job.work()
        except Exception as error:
            failure, now = (job.name, type(error)), time.monotonic()
            if now >= self._quiet.get(failure, now):
                self._quiet[failure] = now + QUIET
                log.exception("%s failed; trying again", job.name)

    def _record(self) -> None:
        """Store what is written, until the server closes; then all of it, and give up the leases."""
        while not self._closing.wait(self._save.every):
            self.attempt(self._save)
        if self.engine is not None:
            self.engine.close()
        self.attempt(self._save)
        self.attempt(self._release)

    def _keep(self) -> None:
        """Do each chore when it is due, one after the other."""
        due = dict.fromkeys(self._chores, 0.0)
        while not self._closing.wait(ROUND):
            now = time.monotonic()
            for job, when in due.items():
                if now >= when:
                    due[job] = now + job.every
                    self.attempt(job)

    def _replay(self) -> None:
        """Look after replays apart from the chores, which may wait seconds for a database."""
        while not self._closing.wait(self._tend.every):
            self.attempt(self._tend)
