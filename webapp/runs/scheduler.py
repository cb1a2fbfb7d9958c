"""The threads that keep a server's runs, and what they work with."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, current_app
from sqlalchemy import inspect

from generate import Refusal, RunLog
from webapp.runs.follower import Follower, show_state
from webapp.runs.recorder import Recorder
from webapp.runs.registry import Clock, Registry, Streams
from webapp.runs.removal import Removal
from webapp.runs.repository import stored_log
from webapp.runs.search import index_words
from webapp.runs.tables import Run, db
from webapp.runs.takeover import Takeover

log = logging.getLogger(__name__)

ROUND = 0.25  # seconds between two savings, and between two looks at what others saved


@dataclass(frozen=True)
class Job:
    """Some work that is done again and again, in an app context, `every` so many seconds."""

    name: str
    work: Callable[[], None]
    every: float


class Live:
    """What the web side shares: the engine, the registry of runs, and whether the server is going on."""

    def __init__(self, app: Flask, engine):
        self.app, self.engine = app, engine
        self.settings = app.config["SETTINGS"]
        self.server = secrets.token_hex(8)  # this process's name among those that share the database
        self.clock = Clock()
        self.registry = Registry(self.settings["RUBRIC_GRACE"])
        self.streams = Streams(self.settings["RUBRIC_MAX_STREAMS"])
        cancel = engine.cancel if engine is not None else None  # a server without an engine has no run to cancel
        self.recorder = Recorder(self.server, self.registry, self.clock, cancel)
        self.follower = Follower(self.server, self.registry, self.clock)
        self.takeover = Takeover(self.server, self.registry, self.clock, engine, app.config["MODELS"])
        self.removal = Removal(self.settings["RUBRIC_KEEP_DAYS"])
        jobs = (
            Job("save", self.recorder.save_round, ROUND),
            Job("release", self.recorder.release, ROUND),
            Job("follow", self.follower.follow, ROUND),
            Job("take_over", self.takeover.take_over, ROUND),
            Job("stop_unwatched", self.takeover.stop_unwatched, ROUND),
            Job("tell_viewers", self.follower.tell_viewers, 1.0),
            Job("reap", self.takeover.reap, 2.0),
            Job("index_words", index_words, 1.0),
            Job("scrub", self.removal.scrub, 2.0),
            Job("expire", self.removal.expire, 60.0),
            Job("clock", self.clock.set, 60.0),
        )
        self.jobs = {job.name: job for job in jobs}
        self.alive: Callable[[], bool] = lambda: not self._closing.is_set()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to record and to follow; call once, in the process that owns the engine."""
        with self.app.app_context():
            tables = inspect(db.engine)
            if not tables.has_table("gone"):
                state = "of an older version" if tables.has_table("run") else "empty"
                raise Refusal(f"The database is {state}; run `flask --app webapp db upgrade` once (make run does it).")
            self.clock.set()
        for name, work in (("recorder", self._record), ("keeper", self._keep)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """End the streams, stop the engine, store what there is, and let other servers go on with it."""
        self._closing.set()
        if self.engine is not None:
            self.engine.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def find(self, run: Run) -> RunLog:
        """The log of a run: a live one, or what was stored. Whoever asks counts as watching at this moment.

        Needs an app context; the log itself does not.
        """
        entry = self.registry.get(run.id)
        if entry is None:
            db.session.expire_all()  # it may have been saved and let go a moment ago
            run_log = stored_log(run)
            if run_log.done:
                return run_log
            show_state(run_log, run, self.clock.now())
            entry = self.registry.keep(run.id, run_log)
        entry.seen = time.monotonic()
        return entry.log

    def stop(self, run_id: str, reason: str = "cancelled") -> None:
        """End a run at once if it is this server that writes it."""
        entry = self.registry.get(run_id)
        if entry is not None and entry.ours:
            self.engine.cancel(entry.log, reason)

    def problem(self) -> str | None:
        """None when runs can be written, else a sentence saying why not."""
        return self.engine.ready() if self.engine is not None else "This server has no engine, so it writes nothing."

    # Threads

    def _record(self) -> None:
        """Store what is written, until the server closes; then all of it, and give up the leases."""
        while not self._closing.wait(ROUND):
            self.attempt(self.jobs["save"])
        if self.engine is not None:
            self.engine.close()
        self.attempt(self.jobs["save"])
        self.attempt(self.jobs["release"])

    def _keep(self) -> None:
        """Follow what others write, take over what nobody does, and clear away what is to go."""
        due = {job: 0.0 for job in self.jobs.values() if job.name not in ("save", "release")}
        while not self._closing.wait(ROUND):
            now = time.monotonic()
            for job, when in due.items():
                if now >= when:
                    due[job] = now + job.every
                    self.attempt(job)

    def attempt(self, job: Job) -> None:
        """One round of some work; a database that fails now is asked again in the next round."""
        try:
            with self.app.app_context():
                job.work()
        except Exception:
            log.exception("%s failed; trying again", job.name)


def live() -> Live:
    """The running app's shared state."""
    return current_app.extensions["rubric"]
