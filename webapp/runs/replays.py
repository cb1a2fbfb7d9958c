"""A finished run once more, from its seed: whether the model still says the same, or where it does not.

A replay is not stored. It lives in this server's memory, for a while, and is given up when nobody asks for it any more.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from generate import BY_ITSELF, N_, Busy, Engine, FinishReason, ModelFolder, RunLog, Vocabulary, languages
from webapp.runs.tables import Run

log = logging.getLogger(__name__)

KEPT = 600.0  # seconds, verdicts included
PATIENCE = 15.0  # seconds without a question after which nobody waits for a verdict
MOST = 64  # replays kept at once
ROUND = 0.2  # seconds between two looks at what is there


@dataclass(frozen=True)
class Written:
    """What a run said, and what it was written with."""

    ids: list[np.ndarray]  # of each sample
    ended: list[str]  # finish_reason of each sample
    vocabulary: Vocabulary
    fingerprint: str | None
    precision: str | None
    device: str | None
    earlier: str | None = None  # the model's name, where it was the weights that the model had before

    @classmethod
    def of(cls, run: Run, log: RunLog, vocabulary: Vocabulary, folder: ModelFolder) -> "Written":
        """What a finished run's log says; `folder` is what its model is now."""
        ids = [sample.read()["id"] for sample in log.samples]
        ended = [sample.finish_reason for sample in log.samples]
        fingerprint = log.fingerprint or run.fingerprint
        earlier = folder.name if fingerprint in folder.earlier else None
        return cls(ids, ended, vocabulary, fingerprint, log.precision, log.device, earlier)

    @property
    def longest(self) -> int:
        """The length of the longest sample, in tokens."""
        return max(map(len, self.ids))


@dataclass(eq=False)
class Replay:
    """One run being written again. `log` is let go once there is a verdict, which is `told` in every language."""

    run_id: str
    owner: str
    written: Written
    log: RunLog | None
    verdict: str | None = None
    told: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)


Judge = Callable[[Written, RunLog], str | None]


class Replays:
    """Those of one server.

    `judge` gives the verdict on what there is of a replay, in words; None: there is none yet. `engine` writes them.
    """

    def __init__(self, judge: Judge, engine: Engine | None):
        self._judge, self._engine = judge, engine
        self._all: dict[str, Replay] = {}
        self._lock = threading.Lock()

    def going_on(self, run_id: str, owner: str) -> str | None:
        """The key of an unfinished replay of the same run by the same visitor: a second click starts no other."""
        with self._lock:
            same = (k for k, r in self._all.items() if (r.run_id, r.owner, r.verdict) == (run_id, owner, None))
            return next(same, None)

    def make_room(self) -> None:
        """Forget what is old, and the oldest verdict where there are too many; raises Busy when all are unfinished."""
        with self._lock:
            self._forget()
            if len(self._all) >= MOST:
                judged = next((key for key, replay in self._all.items() if replay.verdict), None)
                if judged is None:
                    raise Busy("Too many runs are being replayed at once; please try again in a moment.")
                del self._all[judged]

    def add(self, replay: Replay) -> str:
        """Keep a replay that the engine writes; return its key."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._all[key] = replay
        return key

    def find(self, run_id: str, key: str) -> Replay | None:
        """A replay that somebody asks for, which keeps it going."""
        with self._lock:
            self._forget()
            replay = self._all.get(key)
            if replay is None or replay.run_id != run_id:
                return None
            replay.asked = time.monotonic()
            return replay

    def _forget(self) -> None:
        """Let go of old verdicts; what is unfinished is `tend`'s to give up."""
        limit = time.monotonic() - KEPT
        for key in [key for key, replay in self._all.items() if replay.verdict and replay.begun < limit]:
            del self._all[key]

    def run_ids(self) -> set[str]:
        """The runs of which there is a replay, with what it was written as."""
        with self._lock:
            return {replay.run_id for replay in self._all.values()}

    def forget(self, run_ids: set[str]) -> None:
        """Let go of the replays of runs that were removed."""
        with self._lock:
            gone = {key: replay for key, replay in self._all.items() if replay.run_id in run_ids}
            self._all = {key: replay for key, replay in self._all.items() if key not in gone}
        for replay in gone.values():
            written = replay.log  # which the thread that tends may let go at any moment
            if written is not None and not written.done:
                self._engine.cancel(written)

    def tend_all(self) -> None:
        """Judge the unfinished ones as far as that can be done by now; call it every ROUND seconds."""
        with self._lock:
            unfinished = [replay for replay in self._all.values() if replay.verdict is None]
        for replay in unfinished:
            try:
                tend(replay, self._engine, self._judge)
            except Exception:  # the others are waiting for their verdicts
                log.exception("the replay of run %s cannot be judged", replay.run_id)
                close(replay, N_("This replay failed; the server's log says why."), self._engine)


def tend(replay: Replay, engine: Engine | None, judge: Judge) -> None:
    """Judge a replay if that can be done by now, or give it up."""
    now = time.monotonic()
    verdict = judge(replay.written, replay.log)
    if verdict is not None:
        replay.told = languages.in_all(lambda: judge(replay.written, replay.log))
    if verdict is None and now - replay.asked > PATIENCE:
        verdict = N_("Nobody asked for this replay any more, so it was stopped.")
    if verdict is None and now - replay.begun > KEPT:
        verdict = N_("This replay took too long and was stopped.")
    if verdict is not None:
        close(replay, verdict, engine)


def close(replay: Replay, verdict: str, engine: Engine | None) -> None:
    """End a replay with its verdict, and its writing too."""
    written, replay.verdict, replay.log = replay.log, verdict, None
    if engine is not None and written is not None and not written.done:
        engine.cancel(written)


def first_difference(written: Written, again: list[tuple[np.ndarray, str | None]]) -> tuple[int, int] | None:
    """The sample and the place of the first token that differs, as far as there are tokens; None where none does.

    `again` has each sample's ids up to now and its finish_reason. A text that ends where the other goes on differs.
    """
    found = []
    for number, (then, ended, (now, over)) in enumerate(zip(written.ids, written.ended, again, strict=True)):
        both = min(len(then), len(now))
        unlike = np.flatnonzero(then[:both] != now[:both])
        if len(unlike):
            found.append((int(unlike[0]), number))
        elif (len(now) < len(then) and over in BY_ITSELF) or (len(now) > len(then) and ended == FinishReason.STOP):
            found.append((both, number))
    place, number = min(found, default=(0, None))
    return None if number is None else (number, place)
