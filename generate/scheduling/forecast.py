"""What those who wait are told, and those who think of coming: a place, and how long it may be."""

import threading
import time

from generate.interface.engine import Outlook
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import RunState
from generate.sampling.options import Sampling
from generate.sampling.records import unknown_records
from generate.scheduling.loaded_models import LoadedModel, LoadedModels
from generate.scheduling.queue import Forecast, Queue, Ticket

TELL = 0.5  # seconds between two forecasts for those who wait
TYPICAL_TOKENS = 200  # of a run that might come
NEWCOMER = Request(None, Sampling(), owner="whoever comes next")
FIRST_GUESS = 0.02  # seconds a token, before a model has written any


class Forecaster:
    """Looks ahead now and then. It belongs to the engine's thread; `lock` guards the queue."""

    def __init__(self, queue: Queue, models: LoadedModels, lock: threading.Condition, max_rows: int):
        self._queue, self._models, self._lock, self._max_rows = queue, models, lock, max_rows
        self._told = 0.0
        self.outlook = Outlook()  # as of the last look; whether the line is full is not for it to say

    def tell(self) -> None:
        """Tell everybody who waits a place and an estimate, if the line has changed or the last look is a while ago."""
        now = time.monotonic()
        if not self._queue.tickets and not self._models.busy:
            self.outlook = Outlook()
        elif self._queue.changed or now - self._told >= TELL:
            self._told = now
            for forecast in self._look_ahead():
                if not self._models.is_loading(forecast.ticket.request.folder):
                    forecast.ticket.log.set_state(RunState.WAITING, forecast.place, forecast.seconds)

    def _look_ahead(self) -> list[Forecast]:
        """Play the line through, once as it is and once with somebody who comes now."""
        running = [
            (seconds_of(sequence.left, sequence.run, sequence.request, loaded), sequence.request.owner)
            for loaded in self._models.all.values()
            for sequence in loaded.batch.admitted()
            if not sequence.request.yields  # its row is free for whoever wants it
        ]
        free = max(0, self._max_rows - len(running))
        with self._lock:
            self._queue.changed = False
            for ticket in self._queue.tickets:
                loaded, most = self._models.get(ticket.request.folder), ticket.request.sampling.max_new_tokens
                ticket.seconds = seconds_of(most, ticket.log, ticket.request, loaded)
            forecasts = self._queue.forecast(running, free) if self._queue.tickets else []
            newest = next(reversed(self._models.all.values()), None)
            newcomer = Ticket(NEWCOMER, RunLog(unknown_records((), 1), 1), TYPICAL_TOKENS * pace_of(newest))
            played = self._queue.forecast(running, free, newcomer)
        seconds = next((forecast.seconds for forecast in played if forecast.ticket is newcomer), None)
        writing = {sequence.run for sequence in self._models.admitted() if not sequence.request.yields}
        self.outlook = Outlook(len(writing), self._queue.waiting_runs, seconds)
        return forecasts


def seconds_of(tokens: int, run: RunLog, request: Request, loaded: LoadedModel | None) -> float:
    """How long a sample may take that writes so many tokens at the most, or a run that only reads.

    The reading of a prompt counts only in the latter.
    """
    token = loaded.batch.pace.token if loaded else None
    reading = len(run.prompt) * token if request.only_reads and token else 0.0
    return tokens * pace_of(loaded) + reading


def pace_of(loaded: LoadedModel | None) -> float:
    """Seconds for each token asked for: a step's time, times the share of what they may write that runs did of late."""
    batch = loaded.batch if loaded else None
    return batch.pace.writing * batch.delivery.share_written if batch and batch.pace.writing else FIRST_GUESS
