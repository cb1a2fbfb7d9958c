"""The threads that keep a server's runs, and what they work with."""

import logging
import secrets
import threading
import time
from collections.abc import Callable

from flask import Flask, current_app
from sqlalchemy import inspect

from generate import Refusal, RunLog
from webapp.runs import follower, recorder, removal, search, takeover
from webapp.runs.registry import Clock, Registry, Streams
from webapp.runs.repository import stored_log
from webapp.runs.tables import Run, db

log = logging.getLogger(__name__)

ROUND = 0.25  # seconds between two savings, and between two looks at what others saved


class Live:
    """What the web side shares: the engine, the registry of runs, and whether the server is going on."""

    def __init__(self, app: Flask, engine):
        self.app, self.engine = app, engine
        self.settings = app.config["SETTINGS"]
        self.server = secrets.token_hex(8)  # this process's name among those that share the database
        self.born = time.monotonic()
        self.scrubbed = True  # no deleted text is left in a log of the database
        self.clock = Clock()
        self.registry = Registry(self.settings["RUBRIC_GRACE"])
        self.streams = Streams(self.settings["RUBRIC_MAX_STREAMS"])
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
            follower.show_state(run_log, run, self.clock.now())
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
            self._try(recorder.save_round)
        if self.engine is not None:
            self.engine.close()
        self._try(recorder.save_round)
        self._try(recorder.release)

    def _keep(self) -> None:
        """Follow what others write, take over what nobody does, and clear away what is to go."""
        chores = [
            (follower.follow, ROUND),
            (takeover.adopt, ROUND),
            (takeover.stop_unwatched, ROUND),
            (follower.tell_viewers, 1.0),
        ]
        chores += [(takeover.reap, 2.0), (search.index_words, 1.0), (removal.scrub, 2.0), (removal.expire, 60.0)]
        chores += [(set_clock, 60.0)]
        due = dict.fromkeys(chores, 0.0)
        while not self._closing.wait(ROUND):
            now = time.monotonic()
            for (work, every), when in due.items():
                if now >= when:
                    due[work, every] = now + every
                    self._try(work)

    def _try(self, work: Callable[["Live"], None]) -> None:
        """One round of some work; a database that fails now is asked again in the next round."""
        try:
            with self.app.app_context():
                work(self)
        except Exception:
            log.exception("%s failed; trying again", work.__name__)


def set_clock(live: Live) -> None:
    """Set the clock by the database's."""
    live.clock.set()


def live() -> Live:
    """The running app's shared state."""
    return current_app.extensions["rubric"]
