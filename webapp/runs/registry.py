"""Runs that are being written now, here or by another server, and who watches them.

A run has one log in this process, whoever writes it: this server's engine appends to it, or `follower` does with what
another server stores. Streams read the log and know no difference.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import text

from generate import Busy, RunLog, RunState
from webapp.runs.tables import Progress, db


@dataclass(eq=False)
class Entry:
    """A run that has not ended, as this server knows it.

    `ours`: this server holds its lease and its engine writes it. `stored`: its row can be seen by all. `saved` counts the
    tokens of each sample that are in the database. `viewers` watch here, `elsewhere` on other servers; `seen` is when
    anybody last did (monotonic).
    """

    log: RunLog
    ours: bool = False
    stored: bool = True
    saved: list[int] = field(default_factory=list)
    told: Progress | None = None  # what was last stored of it, or read; None: nothing that is known here
    prompt_saved: bool = False
    viewers: int = 0
    elsewhere: int = 0
    seen: float = field(default_factory=time.monotonic)

    def seen_lately(self, grace: float) -> bool:
        """Whether anybody watches here now, or did so within the last `grace` seconds."""
        return self.viewers > 0 or time.monotonic() - self.seen <= grace


class Clock:
    """The time by which all servers of one database go: the database's own, or for SQLite this machine's."""

    def __init__(self):
        self.ahead = 0.0  # seconds that the database's clock is ahead of ours

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead

    def set(self) -> None:
        """Compare our clock with the database's; needs an app context."""
        if db.engine.dialect.name != "sqlite":
            before = time.time()
            theirs = float(db.session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")))
            self.ahead = theirs - (before + time.time()) / 2


class Streams:
    """The places for answers that take a while: each holds a thread of the server, so there are at most `most`."""

    def __init__(self, most: int):
        self.most, self.taken, self.refused = most, 0, 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a place until `give_back` is called; False when all are taken."""
        with self._lock:
            if self.taken >= self.most:
                self.refused += 1
                return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        """Free a place that was taken."""
        with self._lock:
            self.taken -= 1


class Registry:
    """The entries of all runs that are unfinished, as far as this server knows them.

    A run that nobody has watched for `grace` seconds counts as unwatched.
    """

    def __init__(self, grace: float):
        self.grace = grace
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def entries(self) -> dict[str, Entry]:
        """A copy of all that is unfinished, by the runs' ids."""
        with self._lock:
            return dict(self._entries)

    def ours(self) -> dict[str, Entry]:
        """The runs that this server writes, and whose rows are there."""
        return {run_id: entry for run_id, entry in self.entries().items() if entry.ours and entry.stored}

    def others(self) -> dict[str, Entry]:
        """The runs that other servers write, or nobody just now."""
        return {run_id: entry for run_id, entry in self.entries().items() if not entry.ours}

    def get(self, run_id: str) -> Entry | None:
        """The entry of a run, if it is known here as unfinished."""
        with self._lock:
            return self._entries.get(run_id)

    def add(self, run_id: str, log: RunLog, stored: bool = True) -> Entry:
        """A run that this server's engine writes from now on."""
        with self._lock:
            self._entries[run_id] = Entry(log, ours=True, stored=stored, saved=[0] * len(log.samples))
            return self._entries[run_id]

    def keep(self, run_id: str, log: RunLog) -> Entry:
        """The entry of a run that others write: a new one with this log, unless another reader was quicker."""
        with self._lock:
            return self._entries.setdefault(run_id, Entry(log))

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

    def join(self, run_id: str, log: RunLog) -> Entry | None:
        """One more watches a run, if it is being written, from now until `leave` is called with the entry."""
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is None or entry.log is not log:
                return None
            entry.viewers += 1
            return entry

    def leave(self, entry: Entry | None) -> None:
        """One less watches: undoes `join`, whose result it takes."""
        if entry is not None:
            with self._lock:
                entry.viewers -= 1
                entry.seen = time.monotonic()

    def watching(self, run_id: str) -> int:
        """How many watch a run that is being written, on all servers."""
        entry = self.get(run_id)
        if entry is None:
            return 0
        here = entry.viewers + entry.elsewhere
        told = 0 if entry.ours or entry.log.state == RunState.PAUSED or entry.told is None else entry.told.watching
        return max(here, told)

    def writes(self, run_id: str) -> bool:
        """Whether it is this server that writes a run."""
        entry = self.get(run_id)
        return entry is not None and entry.ours


def hold(
    streams: Streams, registry: Registry, parts: Iterator[str], run_id: str | None = None, log: RunLog | None = None
) -> "Held":
    """Give an answer that takes a while one of the places for streams; raises Busy when all are taken."""
    if not streams.take():
        raise Busy("Too many people are watching at once; please try again in a moment.")
    return Held(streams, registry, parts, run_id, log)


class Held:
    """An iterator that holds one of the places for streams, and counts as one who watches the run, if one is named.

    Both until it is closed, as WSGI servers do in every case.
    """

    def __init__(
        self, streams: Streams, registry: Registry, parts: Iterator[str], run_id: str | None, log: RunLog | None
    ):
        self._streams, self._registry, self._parts, self._open = streams, registry, parts, True
        self._entry = registry.join(run_id, log) if run_id else None

    def __iter__(self) -> "Held":
        return self

    def __next__(self) -> str:
        return next(self._parts)

    def close(self) -> None:
        """Close the iterator within and give back the place, once."""
        try:
            self._parts.close()
        finally:
            if self._open:
                self._open = False
                self._registry.leave(self._entry)
                self._streams.give_back()
