"""Completions that are kept: runs like any other, with pages of their own, that nobody asked for on a page."""

from flask import Flask

from generate import ModelFolder, RunLog, Sampling, unknown_records
from webapp.runs.derivation import Beginning
from webapp.runs.registry import Entry, Registry
from webapp.runs.repository import find_run
from webapp.runs.service import Service
from webapp.runs.typed import as_typed


class Kept:
    """Starts them. Whoever asked for one watches it, until `end`."""

    def __init__(self, app: Flask, service: Service, registry: Registry):
        self._app, self._service, self._registry = app, service, registry
        self._watched: dict[str, Entry | None] = {}

    def start(
        self,
        folder: ModelFolder,
        ids: list[int],
        sampling: Sampling,
        owner: str,
        text: str | None = None,
        first_sample: int = 0,
        address: str | None = None,
    ) -> tuple[str, RunLog]:
        """Start a run and store it, of a prompt that was given as `text` (None: by its ids), for somebody at an address, by
        its keyed hash; returns its id and its log. Raises Refusal, and Busy."""
        typed = None if text is None else as_typed(text, folder)
        records = unknown_records(ids, folder.config.vocab_size)
        beginning = Beginning(records, (len(ids),), typed=typed, first_sample=first_sample)
        with self._app.app_context():  # a stream may have left that of its request
            run_id = self._service.start(folder, beginning, sampling, owner, address=address)
            log = self._service.log_of(find_run(run_id))
        self._watched[run_id] = self._registry.join(run_id, log)
        return run_id, log

    def end(self, run_id: str) -> None:
        """Nobody reads its log for an answer any more; if it is being written, that ends."""
        self._registry.leave(self._watched.pop(run_id, None))
        entry = self._registry.get(run_id)
        if entry is not None and not entry.log.done:
            self._service.cancel(run_id)
