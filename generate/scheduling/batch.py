"""The running batch of one loaded model: rows join, and read, write and leave together.

A step is one pass of the model over the next token of every running row and, beside them, some tokens of the texts that
other rows wait for. Nothing counts as done before the pass is through: a step that fails can be tried again in parts.
"""

import logging
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from generate.errors import what_failed
from generate.folders.contract import ModelFolder
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.sampling.records import unknown_records
from generate.sampling.sampler import Rows, choose
from generate.sampling.statistics import Report, as_prompt, prompt_records, report_plain, report_sampled, survey
from generate.scheduling.memory import out_of_memory, poisoned, rows_that_fit
from generate.scheduling.prefill import Pace, Reading, smooth
from generate.scheduling.prefix_cache import Prefixes
from generate.scheduling.sequence import Row, new_rows, seen_tokens, stack_options
from generate.scheduling.window import window_start, windows
from generate.transformer.graphs import Graphs
from generate.transformer.kv_cache import SHARE_LENGTH, SHARE_ROWS, kv_bytes, room_for
from generate.transformer.model import GPT2

log = logging.getLogger(__name__)

STATISTICS_ROWS = 64  # prompt positions whose logits are held at once
OUT_OF_RANGE = "The model's numbers ran out of range (NaN or infinity)."

Part = tuple[Reading, int]  # a text, and how many of its tokens to read in this step


class Batch:
    """All work in progress on one model."""

    def __init__(self, model: GPT2, folder: ModelFolder, max_rows: int, prefix_bytes: int = 0):
        self.model, self.config, self.device = model, model.config, model.device
        self.vocabulary, self.end_id = folder.tokenizer.vocabulary, folder.end_id
        self.max_rows = min(max_rows, rows_that_fit(model))
        self.cache = model.new_cache(self.max_rows, prefix_bytes)
        self.graphs = Graphs(model, self.cache) if model.device.type == "cuda" else None
        self.prefixes = Prefixes(prefix_bytes, kv_bytes(model.config, 1, model.dtype))
        self.rows: list[Row] = []  # in the cache's order
        self.readings: list[Reading] = []
        self.pace = Pace()
        self._admitted = 0  # runs so far
        self.share_written = 1.0  # of the tokens that rows may write at the most, how many they did of late
        self.look_ahead = model.device.type == "cuda"  # begin a step before the last one's tokens are handed out
        self._pending: tuple[list[Row], Report] | None = (
            None  # the last step's tokens, when they were not handed out yet
        )
        self._options: Rows | None = None  # of `rows`, until they change
        self._ids: Tensor | None = None  # the last token of each of `rows`
        self._positions: Tensor | None = None

    @property
    def held(self) -> int:
        """Rows that are let in: writing, or waiting for their text to be read."""
        return len(self.rows) + sum(len(reading.rows) for reading in self.readings)

    @property
    def busy(self) -> bool:
        return self.held > 0

    @property
    def has_room(self) -> bool:
        return self.held < self.max_rows

    def held_rows(self) -> list[Row]:
        return [*self.rows, *(row for reading in self.readings for row in reading.rows)]

    def warm_up(self) -> None:
        """Read one token and write one, so that a model that cannot run is known before it is offered.

        Whatever is compiled at its first use is compiled here, and not while somebody waits for a text.
        """
        prefix = self.cache.new_prefix(1)
        first, one = (torch.full((1,), n, dtype=torch.int64, device=self.device) for n in (0, 1))
        logits = self.model.logits(self.model.hidden([(prefix, first, first)]))
        options = Rows(one.float(), one, one.float(), one.float(), one, first, first, None)
        report_sampled(logits, seen := survey(logits), choose(logits, options, seen.top), options).records()
        if self.config.n_positions > 1:
            prefix.length = 1
            seat = self.cache.join(None, prefix, shared=False)
            self.cache.make_room()
            self.cache.begin_step()
            self.model.hidden([(self.cache, first, first + 1)])
            self.cache.leave(seat)

    # Coming

    def admit(self, request: Request, run: RunLog, rows: int | None = None) -> None:
        """Take a run in: its prompt is read once. `rows` of its samples may write (all, by default), the rest `later`.

        A run that was written in part goes on: each sample's text is read up to its last token. One that only reads
        takes no seat: its samples end when its text is read.
        """
        run.set_state("reading")
        try:
            self._admitted += 1
            new = new_rows(request, run, self._admitted, self.vocabulary, self.device)
            if request.only_reads and new:
                self._score(run, deque(new), list(request.prompt_ids), 0)
                return
            for row in new:
                self._end_if_over(row)
            going = [row for row in new if not row.finished]
            if not going:
                return
            fresh = not any(len(sample) for sample in run.samples)  # else the prompt's records are there already
            first = going[0]
            ids = list(first.ids)
            judged = len(ids)
            if request.statistics and fresh:
                # in the first window also what is known: whoever begins with the same text may know less of it
                judged = first_unknown(run, first.window + 1, len(ids)) if first.window else 1
            reading = self._reading(run, [first], ids, first.window, judged)
            reading.later.extend(going[1:])
            self.readings.append(reading)
            for _ in range((rows or len(going)) - 1):
                self.let_in(run)
        except Exception as error:
            log.exception("a run could not be admitted")
            for sample in run.samples:
                run.finish(sample, "error", sample.size(self.vocabulary), what_failed(error))

    def let_in(self, run: RunLog) -> None:
        """One more sample of a run that was admitted may write."""
        reading = next((reading for reading in self.readings if reading.run is run and reading.later), None)
        if reading is None:
            return
        row = reading.later.popleft()
        if row.ids == reading.ids:
            reading.rows.append(row)
        else:  # the run goes on, and this sample has a text of its own
            self.readings.append(self._reading(run, [row], list(row.ids), row.window, len(row.ids)))

    def _reading(
        self, run: RunLog, rows: list[Row], ids: list[int], start: int, first: int, end: int | None = None
    ) -> Reading:
        """Begin to read ids[start:end], from as far on as it was read before; tokens from index `first` on are judged."""
        end = len(ids) if end is None else end
        known = unknown_records(ids[start : end + 1], self.config.vocab_size)
        reading = Reading(run, rows, self.cache.new_prefix(end - start), ids, start, end, first, known)
        try:
            records = self.prefixes.fill(reading.prefix, ids[start:end], first - start)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.prefixes.drop()
            records, reading.prefix = None, self.cache.new_prefix(end - start)
        if records is not None:
            reading.note(first, records[first - start :])
        return reading

    def _score(self, run: RunLog, rows: deque[Row], ids: list[int], start: int) -> None:
        """Read the next window of a text that is only scored, from the one at `start` on; end its rows after the last.

        Windows in which all is known are left out. Others whose texts wait to be read get theirs in between.
        """
        count, most = len(ids), self.config.n_positions
        for window, first, end in windows(count, most, start):
            first = first_unknown(run, first, end)
            if first < end:
                reading = self._reading(run, [rows[0]], ids, window, first, min(window + most, count))
                reading.later.extend(row for row in rows if row is not rows[0])
                self.readings.append(reading)
                return
        for row in rows:
            self._finish(row, "length")

    # A step

    def step(self) -> None:
        """Drop what was cancelled, write one token a row, read some, seat the rows whose text is read."""
        self.drop_cancelled()
        parts = self._plan()
        if parts or not self._may_go_ahead():
            self._hand_out()
            self._sweep()
        try:
            self._make_room()
            self.pace.begin()
            self._advance(len(self.rows), parts)
            self.pace.end(len(self.rows), sum(count for _, count in parts))
        except Exception as error:
            self._try_apart(error, parts)
        for reading in list(self.readings):
            if reading.logits is not None and reading.rows:
                if reading.rows[0].request.only_reads:
                    self._guard(lambda reading=reading: self._score_on(reading), [*reading.rows, *reading.later])
                else:
                    self._guard(lambda reading=reading: self._seat(reading), reading.rows)
        self._sweep()

    def _make_room(self) -> None:
        try:
            moved = True
            moved = self.cache.make_room()
        finally:
            if moved:
                self._reorder()

    def _plan(self) -> list[Part]:
        """The texts to read in this step, the first come first."""
        budget, parts = self.pace.budget(len(self.rows)), []
        for reading in self.readings:
            if reading.left and budget > 0:
                parts.append((reading, min(reading.left, budget)))
                budget -= parts[-1][1]
        return parts

    def _advance(self, rows: int, parts: list[Part]) -> None:
        """One pass over the running rows (all of them, or none) and over parts of texts; then note what came of it."""
        if not rows and not parts:
            return
        hidden = self._pass(rows, parts)
        starts = np.cumsum([rows, *(count for _, count in parts)])
        ended = [place for place, (reading, count) in enumerate(parts) if count == reading.left]
        wanted = [*range(rows), *(int(starts[place + 1]) - 1 for place in ended)]
        every = None  # logits of all tokens, where they are few enough for one product
        if len(hidden) <= STATISTICS_ROWS and any(reading.judged(count) for reading, count in parts):
            every = self.model.logits(hidden)
        if every is not None or not wanted:
            logits = hidden[:0] if every is None else every[wanted]
        else:
            logits = self.model.logits(hidden if len(wanted) == len(hidden) else hidden[wanted])
        report = self._choose(logits[:rows], self.rows, self._options) if rows else None
        told = [
            self._statistics(part, hidden[start:], None if every is None else every[start:])
            for part, start in zip(parts, starts, strict=False)
        ]
        last = [logits[rows + number :][:1].clone() for number in range(len(ended))]
        # from here on nothing can fail for want of memory or by the device
        for (reading, count), (place, found) in zip(parts, told, strict=True):
            reading.note(place, found)
            reading.prefix.length += count
        for number, place in enumerate(ended):
            parts[place][0].logits = last[number]
            self._keep(parts[place][0])
        if rows:
            self.cache.end_step()
            self._ids, self._positions = report.ids, self._positions + 1
            self._options.advance(report.ids)
            self._hand_out()
            self._pending = self.rows, report
            if not self.look_ahead:
                self._hand_out()

    def _pass(self, rows: int, parts: list[Part]) -> Tensor:
        """Hidden states [M, n_embd] of the rows' last tokens and then of the parts."""
        pieces = []
        if rows:
            self._prepare()
            if not parts and self.graphs is not None:
                return self.graphs.hidden(self._ids, self._positions)
            self.cache.begin_step()
            pieces.append((self.cache, self._ids, self._positions))
        for reading, count in parts:
            ids = torch.tensor(reading.ids[reading.next : reading.next + count], device=self.device)
            first = reading.prefix.length
            pieces.append((reading.prefix, ids, torch.arange(first, first + count, device=self.device)))
        return self.model.hidden(pieces)

    def _prepare(self) -> None:
        """Bring the tensors that describe the running rows up to date."""
        if self._options is None:
            self._options = stack_options(self.rows, self.config.vocab_size, self.device)
            self._ids = torch.tensor([row.ids[-1] for row in self.rows], device=self.device)
            self._positions = torch.tensor([row.seat.position for row in self.rows], device=self.device)

    def _choose(self, logits: Tensor, rows: list[Row], options: Rows) -> Report:
        """Choose each row's next token."""
        if not any(row.request.statistics for row in rows):
            return report_plain(choose(logits, options), logits.shape[1])
        seen = survey(logits)
        return report_sampled(logits, seen, choose(logits, options, seen.top), options)

    def _statistics(self, part: Part, hidden: Tensor, logits: Tensor | None) -> tuple[int, np.ndarray]:
        """What the model thought of the tokens that follow those of a part: the first one's index, and records.

        `hidden` begins with the part's tokens, and so does `logits` where they are known already.
        """
        reading, count = part
        judged = reading.judged(count)
        found = reading.records[:0]
        for place in judged[::STATISTICS_ROWS]:
            ids = torch.tensor(reading.ids[place : min(place + STATISTICS_ROWS, judged.stop)], device=hidden.device)
            low = place - 1 - reading.next
            known = self.model.logits(hidden[low : low + len(ids)]) if logits is None else logits[low : low + len(ids)]
            found = np.concatenate((found, prompt_records(known, ids)))
        return judged.start, found

    # What came of it

    def _may_go_ahead(self) -> bool:
        """Whether the next step may begin before the last one's tokens are known: nobody's room or count runs out."""
        most = self.config.n_positions
        return self._pending is None or all(
            row.left > 1 and row.seat.length < room_for(row.seat.length, most) and row.seat.position < most
            for row in self.rows
        )

    def _hand_out(self) -> None:
        """Report the tokens of the last step; on a GPU the next one runs already."""
        if self._pending is not None:
            (rows, report), self._pending = self._pending, None
            self._take(rows, report.records())

    def _take(self, rows: list[Row], records: np.ndarray) -> None:
        """Report each row's next token, and end the rows that it ends."""
        sane = np.isfinite(records["sampled_logprob"])
        for row, record, good in zip(rows, records, sane, strict=True):
            if row.finished:  # by a stop that came while this token was being written
                continue
            if good:
                self._append(row, record)
            else:
                self._finish(row, "error", OUT_OF_RANGE)

    def _append(self, row: Row, record: np.void) -> None:
        token = int(record["id"])
        row.ids.append(token)
        if row.seen is not None:
            row.seen[token] = True
        row.ending.feed(self.vocabulary.tokens[token])
        with row.run.changed:
            row.log.append(record, row.ending.released)
            row.run.touch()
        self._end_if_over(row)

    def _end_if_over(self, row: Row) -> None:
        """End a row whose last token was its last."""
        if row.ending.stop_at is not None or (row.ending.tokens and row.ids[-1] == self.end_id):
            self._finish(row, "stop")
        elif row.left <= 0:
            self._finish(row, "length")

    def _finish(self, row: Row, reason: str, error: str | None = None) -> None:
        if reason in ("stop", "length") and not row.request.only_reads:
            written = row.ending.tokens / row.request.sampling.max_new_tokens
            self.share_written = smooth(self.share_written, written)
        end = row.ending.size if row.ending.stop_at is None else row.ending.stop_at
        row.run.finish(row.log, reason, end, error)

    def _keep(self, reading: Reading) -> None:
        """Remember a text that was read, for whoever begins with it; of a scored one its last window is enough."""
        if reading.end == len(reading.ids):
            ids, records = reading.ids[reading.start :], reading.records if reading.statistics else None
            self.prefixes.keep(ids, reading.prefix, records, reading.first - reading.start)

    def _keep_written(self, row: Row | None) -> None:
        """Remember what a row has written, for whoever goes on from there. One a step: it has to be copied."""
        if row is None or row.log.finish_reason == "error" or not self.prefixes.has_room_for(row.seat.position):
            return
        ids = row.ids[row.window : row.window + row.seat.position]
        records = None
        if row.window == 0 and row.request.statistics:
            written = row.log.read(len(row.read) - len(row.request.prompt_ids))
            records = np.concatenate((row.read, as_prompt(written)))[: len(ids)]
        try:
            self.prefixes.keep(ids, self.cache.prefix_of(row.seat), records, row.judged)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.prefixes.drop()

    def _seat(self, reading: Reading) -> None:
        """Let the rows that waited for a text join the others, with the first tokens that follow it.

        Rows that find no memory wait on; the others are seated.
        """
        rows = list(reading.rows)
        options = stack_options(rows, self.config.vocab_size, self.device)
        records = self._choose(reading.logits.expand(len(rows), -1), rows, options).records()
        shared = self.graphs is None and reading.prefix.length >= SHARE_LENGTH
        shared = shared and len(rows) + len(reading.later) >= SHARE_ROWS
        try:
            for row in rows:
                row.seat = self.cache.join(row, reading.prefix, shared)
                row.read, row.judged = reading.records, reading.first
                reading.rows.remove(row)
        finally:
            self._reorder()
            seated = [row for row in rows if row.seat is not None]
            for row in seated:
                row.run.set_state("writing")
            self._take(seated, records[: len(seated)])

    def _score_on(self, reading: Reading) -> None:
        """Go on with a text that is only scored, of which one window is read."""
        rows, sane = deque([*reading.rows, *reading.later]), np.isfinite(reading.records["logprob"])
        if not sane[max(0, reading.first - reading.start) :].all():
            for row in rows:
                self._finish(row, "error", OUT_OF_RANGE)
        else:
            half = max(1, self.config.n_positions // 2)
            self._score(reading.run, rows, reading.ids, reading.start + half)
            self.readings.remove(reading)

    def _restart_if_full(self, row: Row) -> bool:
        """Let a row whose window is full wait until its later half was read anew; True when it must."""
        start = window_start(len(row.ids), self.config.n_positions)
        if start == row.window:
            return False
        row.window = start
        self.readings.insert(0, self._reading(row.run, [row], row.ids, start, len(row.ids)))
        return True

    # Going

    def _reorder(self) -> None:
        """The batch's order has changed; tokens of the old one have to be handed out before."""
        self._hand_out()
        self.rows = [seat.row for seat in self.cache.seats]
        self._options = None

    def drop_cancelled(self) -> None:
        for row in self._all_rows():
            if row.run.cancelled and not row.finished:
                self._finish(row, row.run.cancelled)
        self._sweep()

    def _sweep(self) -> None:
        """Take finished rows out of the batch, and send rows with a full window back to reading."""
        if any(row.finished for row in self.rows):
            self._hand_out()
        going = [row for row in self.rows if row.finished or self._restart_if_full(row)]
        self._keep_written(next((row for row in going if row.finished), None))
        for row in going:
            self.cache.leave(row.seat)
            row.seat = None
        if going:
            self._reorder()
        for reading in self.readings:
            reading.rows[:] = [row for row in reading.rows if not row.finished]
            reading.later = type(reading.later)(row for row in reading.later if not row.finished)
        self.readings = [reading for reading in self.readings if reading.rows or reading.later]

    # When something fails

    def _try_apart(self, error: Exception, parts: list[Part]) -> None:
        """A step failed as a whole: free memory if that was the reason, else do its parts one by one."""
        if poisoned(error):
            raise error
        if out_of_memory(error):
            self._free_memory(error)
        elif parts and (self.rows or len(parts) > 1):
            log.warning("a step failed (%s); trying its parts", error)
            self._guard(lambda: self._advance(len(self.rows), []), self.rows)
            for part in parts:
                self._guard(lambda part=part: self._advance(0, [part]), [*part[0].rows, *part[0].later])
        else:
            self._fail(error, self.rows if self.rows else [r for p, _ in parts for r in (*p.rows, *p.later)])

    def _free_memory(self, error: Exception) -> None:
        """Give up remembered texts; if there are none, the run that came last. The step is tried again."""
        if not self.prefixes.drop():
            newest = max(self.held_rows(), key=lambda row: row.admitted).run
            self._fail(error, [row for row in self._all_rows() if row.run is newest])

    def _guard(self, work: Callable[[], None], touched: list[Row]) -> None:
        """Do `work`; an exception ends the rows it touched with `error`, and the batch goes on."""
        touched = list(touched)  # as they are now: half-done work may have moved them
        try:
            work()
        except Exception as error:
            if poisoned(error):
                raise
            if out_of_memory(error):
                self._free_memory(error)
            else:
                self._fail(error, touched)

    def _all_rows(self) -> list[Row]:
        """All rows of all runs that were admitted, let in or not."""
        return [*self.held_rows(), *(row for reading in self.readings for row in reading.later)]

    def _fail(self, error: Exception, rows: list[Row]) -> None:
        log.error("a step of the model failed", exc_info=error)
        for row in list(rows):
            self._finish(row, "error", what_failed(error))
        self._sweep()

    def take_over(self, other: "Batch") -> None:
        """Go on with the rows of a batch whose device failed: everything is read anew, nothing of it is copied."""
        for seat in other.cache.seats:
            seat.row.seat = None
            seat.row.window = window_start(len(seat.row.ids), self.config.n_positions)
            self.readings.append(
                self._reading(seat.row.run, [seat.row], seat.row.ids, seat.row.window, len(seat.row.ids))
            )
        for old in other.readings:
            reading = self._reading(old.run, old.rows, old.ids, old.start, old.first, old.end)
            reading.later = old.later
            self.readings.append(reading)
        for row in self._all_rows():
            row.seen = seen_tokens(row.request, row.ids, self.device)
        for run in {row.run for row in self._all_rows()}:
            run.note_restart()

    def abandon(self, error: Exception) -> None:
        """End every row with `error`; the batch must not be used afterwards."""
        for row in self._all_rows():
            self._finish(row, "error", what_failed(error))


def first_unknown(run: RunLog, start: int, end: int) -> int:
    """Index of the first token of a prompt, from `start` up to `end`, of which nothing is known; else `end`."""
    unknown = (run.prompt["rank"][start:end] == 0).nonzero()[0]
    return start + int(unknown[0]) if len(unknown) else end
