"""Runs that are being written now: their logs in memory, and the thread that writes them to the database."""

import logging
import threading
from collections.abc import Callable

from flask import Flask, current_app
from sqlalchemy import inspect

from generate import Refusal, RunLog
from webapp.database import Run, db
from webapp.store import close_interrupted_runs, save_progress, stored_log

log = logging.getLogger(__name__)

SAVE_EVERY = 0.5  # seconds


class Live:
    """What the web side shares: the engine, the live logs, and whether the server is going on."""

    def __init__(self, app: Flask, engine):
        self._app = app
        self.engine = engine
        self.alive: Callable[[], bool] = lambda: not self._closing.is_set()
        self.streams = threading.BoundedSemaphore(app.config["SETTINGS"]["RUBRIC_MAX_STREAMS"])
        self._runs: dict[str, tuple[RunLog, list[int]]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._recorder: threading.Thread | None = None

    def start(self) -> None:
        """Tidy up after the last server and start recording; call once, in the process that owns the engine."""
        with self._app.app_context():
            if not inspect(db.engine).has_table("run"):
                raise Refusal("The database is empty; run `flask --app webapp db upgrade` once (make run does it).")
            close_interrupted_runs()
        self._recorder = threading.Thread(target=self._record, name="recorder", daemon=True)
        self._recorder.start()

    def close(self) -> None:
        """End the streams, stop the engine, save what there is."""
        self._closing.set()
        if self.engine is not None:
            self.engine.close()
        if self._recorder is not None:
            self._recorder.join(timeout=30)

    def add(self, run_id: str, log: RunLog) -> None:
        with self._lock:
            self._runs[run_id] = (log, [0] * len(log.samples))

    def find(self, run: Run) -> RunLog:
        """The log of a run: the live one, or what was stored. Needs an app context; the log itself does not."""
        with self._lock:
            found = self._runs.get(run.id)
        if found:
            return found[0]
        db.session.expire_all()  # it may have been saved and let go a moment ago
        return stored_log(run)

    def problem(self) -> str | None:
        """None when runs can be written, else a sentence saying why not."""
        return self.engine.ready() if self.engine is not None else "This server has no engine, so it writes nothing."

    def _record(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(SAVE_EVERY)
            if closing and self.engine is not None:
                self.engine.close()
            with self._lock:
                runs = list(self._runs.items())
            for run_id, (run_log, saved) in runs:
                self._save(run_id, run_log, saved)

    def _save(self, run_id: str, run_log: RunLog, saved: list[int]) -> None:
        """Save one run; on a database error it stays in memory and is tried again in the next round."""
        try:
            with self._app.app_context():
                done = save_progress(run_id, run_log, saved)
        except Exception:
            log.exception("run %s could not be saved; trying again", run_id)
            return
        if done:
            with self._lock:
                self._runs.pop(run_id, None)


def live() -> Live:
    """The running app's shared state."""
    return current_app.extensions["rubric"]
