"""Runs that are being written now, here or by another server, and who watches them.

A run has one log in this process, whoever writes it: this server's engine appends to it, or `follower` does with what
another server stores. Streams read the log and know no difference.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flask import Flask, current_app
from sqlalchemy import inspect, text

from generate import Busy, Refusal, RunLog
from webapp.runs import follower, recorder, removal, search, takeover
from webapp.runs.repository import stored_log
from webapp.runs.tables import Run, db

log = logging.getLogger(__name__)

ROUND = 0.25  # seconds between two savings, and between two looks at what others saved


@dataclass(eq=False)
class Entry:
    """A run that has not ended, as this server knows it.

    `ours`: this server holds its lease and its engine writes it. `saved` counts the tokens of each sample that are in
    the database. `viewers` watch here, `elsewhere` on other servers; `seen` is when anybody last did (monotonic).
    """

    log: RunLog
    ours: bool = False
    saved: list[int] = field(default_factory=list)
    told: dict = field(default_factory=dict)  # the `progress` that was last stored, or read
    prompt_saved: bool = False
    viewers: int = 0
    elsewhere: int = 0
    seen: float = field(default_factory=time.monotonic)

    def seen_lately(self, grace: float) -> bool:
        return self.viewers > 0 or time.monotonic() - self.seen <= grace


class Live:
    """What the web side shares: the engine, the entries, and whether the server is going on."""

    def __init__(self, app: Flask, engine):
        self.app, self.engine = app, engine
        self.settings = app.config["SETTINGS"]
        self.server = secrets.token_hex(8)  # this process's name among those that share the database
        self.born = time.monotonic()
        self.scrubbed = True  # no deleted text is left in a log of the database
        self._ahead = 0.0  # seconds that the database's clock is ahead of ours
        self.alive: Callable[[], bool] = lambda: not self._closing.is_set()
        self.open_streams = 0  # places taken of RUBRIC_MAX_STREAMS
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to record and to follow; call once, in the process that owns the engine."""
        with self.app.app_context():
            tables = inspect(db.engine)
            if not tables.has_table("gone"):
                state = "of an older version" if tables.has_table("run") else "empty"
                raise Refusal(f"The database is {state}; run `flask --app webapp db upgrade` once (make run does it).")
            self.set_clock()
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

    @property
    def grace(self) -> float:
        return self.settings["RUBRIC_GRACE"]

    def now(self) -> float:
        """Seconds since 1970 by the clock that all servers of this database go by."""
        return time.time() + self._ahead

    def set_clock(self) -> None:
        """Compare our clock with the database's; SQLite's is ours."""
        if db.engine.dialect.name != "sqlite":
            before = time.time()
            theirs = float(db.session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")))
            self._ahead = theirs - (before + time.time()) / 2

    # Entries

    def entries(self) -> dict[str, Entry]:
        """A copy of all that is unfinished, by the runs' ids."""
        with self._lock:
            return dict(self._entries)

    def add(self, run_id: str, run_log: RunLog) -> None:
        """A run that this server's engine writes from now on."""
        with self._lock:
            self._entries[run_id] = Entry(run_log, ours=True, saved=[0] * len(run_log.samples))

    def drop(self, run_id: str, entry: Entry) -> None:
        """Let go of an entry, unless another has taken its place."""
        with self._lock:
            if self._entries.get(run_id) is entry:
                del self._entries[run_id]

    def drop_unwatched(self, run_id: str, entry: Entry) -> None:
        """Let go of another server's run that nobody has watched here for the grace time."""
        with self._lock:
            if self._entries.get(run_id) is entry and not entry.seen_lately(self.grace):
                del self._entries[run_id]

    def find(self, run: Run) -> RunLog:
        """The log of a run: a live one, or what was stored. Whoever asks counts as watching at this moment.

        Needs an app context; the log itself does not.
        """
        with self._lock:
            entry = self._entries.get(run.id)
        if entry is None:
            db.session.expire_all()  # it may have been saved and let go a moment ago
            run_log = stored_log(run)
            if run_log.done:
                return run_log
            follower.show_state(run_log, run, self.now())
            with self._lock:  # another reader may have been quicker
                entry = self._entries.setdefault(run.id, Entry(run_log))
        entry.seen = time.monotonic()
        return entry.log

    def join(self, run_id: str, run_log: RunLog) -> Entry | None:
        """One more watches a run, if it is being written, from now until `leave` is called with the entry."""
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is None or entry.log is not run_log:
                return None
            entry.viewers += 1
            return entry

    def leave(self, entry: Entry | None) -> None:
        if entry is not None:
            with self._lock:
                entry.viewers -= 1
                entry.seen = time.monotonic()

    def open_stream(self) -> bool:
        """Take a place for a stream until `close_stream` is called; False when all are taken."""
        with self._lock:
            if self.open_streams >= self.settings["RUBRIC_MAX_STREAMS"]:
                return False
            self.open_streams += 1
            return True

    def close_stream(self) -> None:
        with self._lock:
            self.open_streams -= 1

    def watching(self, run_id: str) -> int:
        """How many watch a run that is being written, on all servers."""
        with self._lock:
            entry = self._entries.get(run_id)
        if entry is None:
            return 0
        here = entry.viewers + entry.elsewhere
        told = 0 if entry.ours or entry.log.state == "paused" else entry.told.get("watching", 0)
        return max(here, told)

    def writes(self, run_id: str) -> bool:
        """Whether it is this server that writes a run."""
        entry = self.entries().get(run_id)
        return entry is not None and entry.ours

    def stop(self, run_id: str, reason: str = "cancelled") -> None:
        """End a run at once if it is this server that writes it."""
        entry = self.entries().get(run_id)
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
        chores += [(Live.set_clock, 60.0)]
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


def live() -> Live:
    """The running app's shared state."""
    return current_app.extensions["rubric"]


def hold(state: Live, parts: Iterator[str], run_id: str | None = None, run_log: RunLog | None = None) -> "Held":
    """Give an answer that takes a while one of the places for streams; raises Busy when all are taken."""
    if not state.open_stream():
        raise Busy("Too many people are watching at once; please try again in a moment.")
    return Held(state, parts, run_id, run_log)


class Held:
    """An iterator that holds one of the places for streams, and counts as one who watches the run, if one is named.

    Both until it is closed, as WSGI servers do in every case.
    """

    def __init__(self, state: Live, parts: Iterator[str], run_id: str | None, run_log: RunLog | None):
        self._state, self._parts, self._open = state, parts, True
        self._entry = state.join(run_id, run_log) if run_id else None

    def __iter__(self) -> "Held":
        return self

    def __next__(self) -> str:
        return next(self._parts)

    def close(self) -> None:
        try:
            self._parts.close()
        finally:
            if self._open:
                self._open = False
                self._state.leave(self._entry)
                self._state.close_stream()
