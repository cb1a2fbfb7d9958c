"""The running batch of one loaded model: prompts are read in chunks, rows join, decode together, and leave."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from generate.cache import Prefix, Slots
from generate.ending import Ending
from generate.folder import ModelFolder
from generate.log import RunLog
from generate.memory import rows_that_fit
from generate.model import GPT2
from generate.request import Request
from generate.row import Row, seen_tokens, stack_options
from generate.sampling import Choice, Rows, choose, to_records
from generate.text import split_half_character
from generate.window import window_start

log = logging.getLogger(__name__)

CHUNK = 256  # prompt tokens read between two decode steps, so that a long prompt does not freeze the others
STATISTICS_ROWS = 64  # prompt positions whose logits are held at once


@dataclass(eq=False)
class Reading:
    """A stretch of tokens to read before its rows can go on: a prompt, or a window that restarts."""

    rows: list[Row]
    prefix: Prefix
    ids: list[int]
    start: int
    statistics: bool
    logits: Tensor | None = field(default=None)

    @property
    def finished(self) -> bool:
        return self.logits is not None


class Batch:
    """All work in progress on one model. `step` does one chunk of reading and one token of every running row."""

    def __init__(self, model: GPT2, folder: ModelFolder, max_rows: int):
        self.model, self.config = model, model.config
        self.vocabulary, self.end_id = folder.tokenizer.vocabulary, folder.end_id
        self.max_rows = min(max_rows, rows_that_fit(model))
        self.slots = Slots(model.config, model.device, model.dtype)
        self.rows: list[Row] = []
        self.readings: deque[Reading] = deque()
        self._options: Rows | None = None

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.readings)

    @property
    def has_room(self) -> bool:
        return len(self.rows) + sum(len(reading.rows) for reading in self.readings) < self.max_rows

    def warm_up(self) -> None:
        """One pass of the model over one token, so that a model that cannot run is known before it is offered."""
        reading = self._reading([], [0], 0, statistics=False)
        self._read_chunk(reading)
        if self.config.n_positions > 1:
            self.slots.join(reading.prefix)
            self._forward_step([0], [1])
            self.slots.drop()

    def admit(self, request: Request, run: RunLog) -> None:
        """Take a run in: its prompt is read once, and all its samples start from what was read."""
        run.set_state("reading")
        try:
            ids = list(request.prompt_ids)
            start = window_start(len(ids), self.config.n_positions)
            self.readings.append(self._reading(self._rows(request, run, start), ids, start, statistics=True))
        except Exception as error:
            log.exception("a run could not be admitted")
            for sample in run.samples:
                run.finish(sample, "error", 0, what_failed(error))

    def _rows(self, request: Request, run: RunLog, start: int) -> list[Row]:
        ids = list(request.prompt_ids)
        end_text = (request.folder.end_text,) if request.folder.end_text else ()
        stops = [stop.encode() for stop in (*request.sampling.stop, *end_text)]
        half = split_half_character(self.vocabulary.bytes_of(ids))[1]
        return [
            Row(
                run=run,
                log=sample,
                request=request,
                number=request.first_sample + index,
                ids=ids.copy(),
                ending=Ending(stops, half),
                window=start,
                seen=seen_tokens(request, self.config.vocab_size, self.model.device),
            )
            for index, sample in enumerate(run.samples)
        ]

    def step(self) -> None:
        """Drop what was cancelled, read one chunk, seat rows whose prompt is read, decode one token a row."""
        self._drop_cancelled()
        self._guard(self._read_next, self.readings[0].rows if self.readings else [])
        self._guard(self._seat, self.readings[0].rows if self.readings else [])
        self._guard(self._decode, self.rows)

    def _guard(self, work: Callable[[], None], touched: list[Row]) -> None:
        """Do `work`; an exception ends the rows it touched with `error`, and the batch goes on."""
        touched = list(touched)  # as they are now: half-done work may have moved them
        try:
            work()
        except Exception as error:
            log.exception("a step of the model failed")
            self._fail(touched, error)

    def _fail(self, rows: list[Row], error: Exception) -> None:
        for row in rows:
            self._finish(row, "error", what_failed(error))
        self._sweep()

    def abandon(self, error: Exception) -> None:
        """End every row with `error`; the batch must not be used afterwards."""
        for row in [*self.rows, *(row for reading in self.readings for row in reading.rows)]:
            self._finish(row, "error", what_failed(error))

    # Reading

    def _reading(self, rows: list[Row], ids: list[int], start: int, statistics: bool) -> Reading:
        prefix = Prefix(self.config, len(ids) - start, self.model.device, self.model.dtype)
        return Reading(rows, prefix, ids, start, statistics)

    def _read_next(self) -> None:
        if self.readings and not self.readings[0].finished:
            self._read_chunk(self.readings[0])

    def _read_chunk(self, reading: Reading) -> None:
        """Read up to CHUNK tokens into the prefix; after the last one `reading.logits` [1, V] predict the next."""
        prefix, device = reading.prefix, self.model.device
        first = reading.start + prefix.start
        ids = torch.tensor([reading.ids[first : first + CHUNK]], device=device)
        positions = torch.arange(prefix.start, prefix.start + ids.shape[1], device=device)[None]
        hidden = self.model.hidden(ids, positions, prefix)[0]
        prefix.start += ids.shape[1]
        if reading.statistics:
            self._record_prompt(reading, first, hidden)
        if reading.start + prefix.start == len(reading.ids):
            reading.logits = self.model.logits(hidden[-1:])

    def _record_prompt(self, reading: Reading, first: int, hidden: Tensor) -> None:
        """Note what the model thought of each prompt token after the `first` of the chunk."""
        following = reading.ids[first + 1 : first + 1 + len(hidden)]
        for low in range(0, len(following), STATISTICS_ROWS):
            ids = torch.tensor(following[low : low + STATISTICS_ROWS], device=hidden.device)
            records = to_records(self.model.logits(hidden[low : low + len(ids)]), ids, None, None)
            place = first + 1 + low
            reading.rows[0].run.prompt[place : place + len(ids)] = records

    def _seat(self) -> None:
        """Give slots to rows whose prompt is read, as far as there are any, and choose their first tokens."""
        if not self.readings or not self.readings[0].finished:
            return
        reading = self.readings[0]
        seated = reading.rows[: self.max_rows - len(self.rows)]
        if not seated:
            return
        for row in seated:
            row.run.set_state("writing")
        self._choose(
            reading.logits.expand(len(seated), -1),
            seated,
            stack_options(seated, self.config.vocab_size, self.model.device),
        )
        for row in seated:
            if not row.finished and not self._restart_if_full(row):
                self.slots.join(reading.prefix)
                self.rows.append(row)
                self._options = None
            reading.rows.remove(row)
        self._sweep()

    # Writing

    def _decode(self) -> None:
        if not self.rows:
            return
        if self._options is None:
            self._options = stack_options(self.rows, self.config.vocab_size, self.model.device)
        positions = [len(row.ids) - 1 - row.window for row in self.rows]
        logits = self._forward_step([row.ids[-1] for row in self.rows], positions)
        self._options.position = torch.tensor([len(row.ids) for row in self.rows], device=logits.device)
        self._choose(logits, self.rows, self._options)
        self._sweep()

    def _forward_step(self, ids: list[int], positions: list[int]) -> Tensor:
        """Logits [B, V] after one more token in every slot."""
        device = self.model.device
        self.slots.begin_step()
        hidden = self.model.hidden(
            torch.tensor(ids, device=device)[:, None], torch.tensor(positions, device=device)[:, None], self.slots
        )
        self.slots.end_step()
        return self.model.logits(hidden[:, 0])

    def _choose(self, logits: Tensor, rows: list[Row], options: Rows) -> None:
        """Choose each row's next token, report it, and end the rows that it ends."""
        choice: Choice = choose(logits, options)
        records = to_records(logits, choice.ids, choice, options.temperature)
        for place, (row, record) in enumerate(zip(rows, records, strict=True)):
            if not np.isfinite(record["log_z"]):
                self._finish(row, "error", "The model's numbers ran out of range (NaN or infinity).")
                continue
            self._append(row, record)
            if options.seen is not None:
                options.seen[place, row.ids[-1]] = True
                row.seen = options.seen[place]

    def _append(self, row: Row, record) -> None:
        token = int(record["id"])
        row.ids.append(token)
        row.ending.feed(self.vocabulary.tokens[token])
        with row.run.changed:
            row.log.append(record, row.ending.released)
            row.run.touch()
        if token == self.end_id or row.ending.stop_at is not None:
            self._finish(row, "stop")
        elif row.ending.tokens >= row.request.sampling.max_new_tokens:
            self._finish(row, "length")

    def _finish(self, row: Row, reason: str, error: str | None = None) -> None:
        end = row.ending.size if row.ending.stop_at is None else row.ending.stop_at
        row.run.finish(row.log, reason, end, error)

    # Coming and going

    def _drop_cancelled(self) -> None:
        for row in [*self.rows, *(row for reading in self.readings for row in reading.rows)]:
            if row.run.cancelled and not row.finished:
                self._finish(row, "cancelled")
        self._sweep()

    def _sweep(self) -> None:
        """Take finished rows out of the batch, and send rows with a full window back to reading."""
        for slot in reversed(range(len(self.rows))):
            row = self.rows[slot]
            if row.finished or self._restart_if_full(row):
                self.slots.leave(slot)
                self.rows[slot] = self.rows[-1]
                self.rows.pop()
                self._options = None
        for reading in list(self.readings):
            reading.rows = [row for row in reading.rows if not row.finished]
            if not reading.rows:
                self.readings.remove(reading)
        if not self.busy:
            self.slots.drop()

    def _restart_if_full(self, row: Row) -> bool:
        """Queue a row whose window is full to be read anew from its later half; True when it was."""
        start = window_start(len(row.ids), self.config.n_positions)
        if start == row.window:
            return False
        row.window = start
        self.readings.appendleft(self._reading([row], row.ids, start, statistics=False))
        return True


def what_failed(error: Exception) -> str:
    return f"The model failed: {type(error).__name__}: {error}"[:300]
