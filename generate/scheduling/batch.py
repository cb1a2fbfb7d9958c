"""The running batch of one loaded model: sequences join, and read, write and leave together.

A step is one pass of the model over the next token of every running sequence and, beside them, some tokens of the texts
that others wait for. Nothing counts as done before the pass is through: a step that fails can be tried again in parts.
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
from generate.interface.states import BY_ITSELF, FinishReason, RunState
from generate.sampling.records import first_unknown, unknown_records
from generate.sampling.sampler import RowOptions, choose
from generate.sampling.statistics import Report, as_prompt, prompt_records, report_plain, report_sampled, survey
from generate.scheduling.memory import out_of_memory, poisoned, rows_that_fit
from generate.scheduling.pace import Pace, smooth
from generate.scheduling.prefill import Prefill
from generate.scheduling.prefix_cache import PrefixCache
from generate.scheduling.sequence import Sequence, new_sequences, seen_tokens, stack_options
from generate.scheduling.window import window_start, windows
from generate.transformer.graphs import Graphs
from generate.transformer.kv_cache import SHARE_LENGTH, SHARE_ROWS, kv_bytes, room_for
from generate.transformer.model import GPT2

log = logging.getLogger(__name__)

STATISTICS_ROWS = 64  # prompt positions whose logits are held at once
OUT_OF_RANGE = "The model's numbers ran out of range (NaN or infinity)."

Part = tuple[Prefill, int]  # a text, and how many of its tokens to read in this step


class Batch:
    """All work in progress on one model."""

    def __init__(self, model: GPT2, folder: ModelFolder, max_rows: int, prefix_bytes: int = 0):
        self.model, self.config, self.device = model, model.config, model.device
        self.vocabulary, self.end_id = folder.tokenizer.vocabulary, folder.end_id
        self.max_rows = min(max_rows, rows_that_fit(model))
        self.cache = model.new_cache(self.max_rows, prefix_bytes)
        self.graphs = Graphs(model, self.cache) if model.device.type == "cuda" else None
        self.prefix_cache = PrefixCache(prefix_bytes, kv_bytes(model.config, 1, model.dtype))
        self.sequences: list[Sequence] = []  # in the cache's order
        self.prefills: list[Prefill] = []
        self.pace = Pace()
        self._arrivals = 0  # runs so far
        self.share_written = 1.0  # of the tokens that sequences may write at the most, how many they did of late
        self.look_ahead = model.device.type == "cuda"  # begin a step before the last one's tokens are handed out
        # the last step's tokens, when they were not handed out yet
        self._pending: tuple[list[Sequence], Report] | None = None
        self._options: RowOptions | None = None  # of `sequences`, until they change
        self._ids: Tensor | None = None  # the last token of each of `sequences`
        self._positions: Tensor | None = None

    @property
    def held(self) -> int:
        """Sequences that are let in: writing, or waiting for their text to be read."""
        return len(self.sequences) + sum(len(prefill.sequences) for prefill in self.prefills)

    @property
    def busy(self) -> bool:
        return self.held > 0

    @property
    def has_room(self) -> bool:
        return self.held < self.max_rows

    def admitted(self) -> list[Sequence]:
        return [*self.sequences, *(sequence for prefill in self.prefills for sequence in prefill.sequences)]

    # Coming

    def admit(self, request: Request, run: RunLog, rows: int | None = None) -> None:
        """Take a run in: its prompt is read once. `rows` of its samples may write (all, by default), the rest `later`.

        A run that was written in part goes on: each sample's text is read up to its last token. One that only reads
        takes no slot: its samples end when its text is read.
        """
        run.set_state(RunState.READING)
        try:
            self._arrivals += 1
            new = new_sequences(request, run, self._arrivals, self.vocabulary, self.device)
            if request.only_reads and new:
                self._score(run, deque(new), list(request.prompt_ids), 0)
                return
            for sequence in new:
                self._end_if_over(sequence)
            going = [sequence for sequence in new if not sequence.finished]
            if not going:
                return
            fresh = not any(len(sample) for sample in run.samples)  # else the prompt's records are there already
            first = going[0]
            ids = list(first.ids)
            judged = len(ids)
            if request.statistics and fresh:
                # in the first window also what is known: whoever begins with the same text may know less of it
                judged = first_unknown(run.prompt, first.window + 1, len(ids)) if first.window else 1
            prefill = self._begin_prefill(run, [first], ids, first.window, judged)
            prefill.later.extend(going[1:])
            self.prefills.append(prefill)
            for _ in range((rows or len(going)) - 1):
                self.let_in(run)
        except Exception as error:
            log.exception("a run could not be admitted")
            for sample in run.samples:
                run.finish(sample, FinishReason.ERROR, sample.size(self.vocabulary), what_failed(error))

    def let_in(self, run: RunLog) -> None:
        """One more sample of a run that was admitted may write."""
        prefill = next((prefill for prefill in self.prefills if prefill.run is run and prefill.later), None)
        if prefill is None:
            return
        sequence = prefill.later.popleft()
        if sequence.ids == prefill.ids:
            prefill.sequences.append(sequence)
        else:  # the run goes on, and this sample has a text of its own
            self.prefills.append(
                self._begin_prefill(run, [sequence], list(sequence.ids), sequence.window, len(sequence.ids))
            )

    def _begin_prefill(
        self, run: RunLog, sequences: list[Sequence], ids: list[int], start: int, first: int, end: int | None = None
    ) -> Prefill:
        """Begin to read ids[start:end], from as far on as was read before; tokens from index `first` on are judged."""
        end = len(ids) if end is None else end
        known = unknown_records(ids[start : end + 1], self.config.vocab_size)
        prefill = Prefill(run, sequences, self.cache.new_prefix(end - start), ids, start, end, first, known)
        try:
            records = self.prefix_cache.fill(prefill.prefix, ids[start:end], first - start)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.prefix_cache.drop()
            records, prefill.prefix = None, self.cache.new_prefix(end - start)
        if records is not None:
            prefill.note(first, records[first - start :])
        return prefill

    def _score(self, run: RunLog, sequences: deque[Sequence], ids: list[int], start: int) -> None:
        """Read the next window of a text that is only scored, from `start` on; its sequences end with the last.

        Windows in which all is known are left out. Others whose texts wait to be read get theirs in between.
        """
        count, most = len(ids), self.config.n_positions
        for window, first, end in windows(count, most, start):
            first = first_unknown(run.prompt, first, end)
            if first < end:
                prefill = self._begin_prefill(run, [sequences[0]], ids, window, first, min(window + most, count))
                prefill.later.extend(sequence for sequence in sequences if sequence is not sequences[0])
                self.prefills.append(prefill)
                return
        for sequence in sequences:
            self._finish(sequence, FinishReason.LENGTH)

    # A step

    def step(self) -> None:
        """Drop what was cancelled, write one token a sequence, read some, seat the sequences whose text is read."""
        self.drop_cancelled()
        parts = self._plan()
        if parts or not self._may_go_ahead():
            self._hand_out()
            self._sweep()
        try:
            self._make_room()
            self.pace.begin()
            self._advance(len(self.sequences), parts)
            self.pace.end(len(self.sequences), sum(count for _, count in parts))
        except Exception as error:
            self._try_apart(error, parts)
        for prefill in list(self.prefills):
            if prefill.logits is not None and prefill.sequences:
                if prefill.sequences[0].request.only_reads:
                    self._guard(lambda prefill=prefill: self._score_on(prefill), [*prefill.sequences, *prefill.later])
                else:
                    self._guard(lambda prefill=prefill: self._seat(prefill), prefill.sequences)
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
        budget, parts = self.pace.budget(len(self.sequences)), []
        for prefill in self.prefills:
            if prefill.left and budget > 0:
                parts.append((prefill, min(prefill.left, budget)))
                budget -= parts[-1][1]
        return parts

    def _advance(self, rows: int, parts: list[Part]) -> None:
        """One pass over the running sequences (all, or none) and over parts of texts; then note what came of it."""
        if not rows and not parts:
            return
        hidden = self._pass(rows, parts)
        starts = np.cumsum([rows, *(count for _, count in parts)])
        ended = [place for place, (prefill, count) in enumerate(parts) if count == prefill.left]
        wanted = [*range(rows), *(int(starts[place + 1]) - 1 for place in ended)]
        every = None  # logits of all tokens, where they are few enough for one product
        if len(hidden) <= STATISTICS_ROWS and any(prefill.judged(count) for prefill, count in parts):
            every = self.model.logits(hidden)
        if every is not None or not wanted:
            logits = hidden[:0] if every is None else every[wanted]
        else:
            logits = self.model.logits(hidden if len(wanted) == len(hidden) else hidden[wanted])
        report = self._choose(logits[:rows], self.sequences, self._options) if rows else None
        told = [
            self._statistics(part, hidden[start:], None if every is None else every[start:])
            for part, start in zip(parts, starts, strict=False)
        ]
        last = [logits[rows + number :][:1].clone() for number in range(len(ended))]
        # from here on nothing can fail for want of memory or by the device
        for (prefill, count), (place, found) in zip(parts, told, strict=True):
            prefill.note(place, found)
            prefill.prefix.length += count
        for number, place in enumerate(ended):
            parts[place][0].logits = last[number]
            self._keep(parts[place][0])
        if rows:
            self.cache.end_step()
            self._ids, self._positions = report.ids, self._positions + 1
            self._options.advance(report.ids)
            self._hand_out()
            self._pending = self.sequences, report
            if not self.look_ahead:
                self._hand_out()

    def _pass(self, rows: int, parts: list[Part]) -> Tensor:
        """Hidden states [M, n_embd] of the sequences' last tokens and then of the parts."""
        pieces = []
        if rows:
            self._prepare()
            if not parts and self.graphs is not None:
                return self.graphs.hidden(self._ids, self._positions)
            self.cache.begin_step()
            pieces.append((self.cache, self._ids, self._positions))
        for prefill, count in parts:
            ids = torch.tensor(prefill.ids[prefill.next : prefill.next + count], device=self.device)
            first = prefill.prefix.length
            pieces.append((prefill.prefix, ids, torch.arange(first, first + count, device=self.device)))
        return self.model.hidden(pieces)

    def _prepare(self) -> None:
        """Bring the tensors that describe the running sequences up to date."""
        if self._options is None:
            self._options = stack_options(self.sequences, self.config.vocab_size, self.device)
            self._ids = torch.tensor([sequence.ids[-1] for sequence in self.sequences], device=self.device)
            self._positions = torch.tensor([sequence.slot.position for sequence in self.sequences], device=self.device)

    def _choose(self, logits: Tensor, sequences: list[Sequence], options: RowOptions) -> Report:
        """Choose each sequence's next token."""
        if not any(sequence.request.statistics for sequence in sequences):
            return report_plain(choose(logits, options), logits.shape[1])
        seen = survey(logits)
        return report_sampled(logits, seen, choose(logits, options, seen.top), options)

    def _statistics(self, part: Part, hidden: Tensor, logits: Tensor | None) -> tuple[int, np.ndarray]:
        """What the model thought of the tokens that follow those of a part: the first one's index, and records.

        `hidden` begins with the part's tokens, and so does `logits` where they are known already.
        """
        prefill, count = part
        judged = prefill.judged(count)
        found = prefill.records[:0]
        for place in judged[::STATISTICS_ROWS]:
            ids = torch.tensor(prefill.ids[place : min(place + STATISTICS_ROWS, judged.stop)], device=hidden.device)
            low = place - 1 - prefill.next
            known = self.model.logits(hidden[low : low + len(ids)]) if logits is None else logits[low : low + len(ids)]
            found = np.concatenate((found, prompt_records(known, ids)))
        return judged.start, found

    # What came of it

    def _may_go_ahead(self) -> bool:
        """Whether the next step may begin before the last one's tokens are known: nobody's room or count runs out."""
        most = self.config.n_positions
        return self._pending is None or all(
            sequence.left > 1
            and sequence.slot.length < room_for(sequence.slot.length, most)
            and sequence.slot.position < most
            for sequence in self.sequences
        )

    def _hand_out(self) -> None:
        """Report the tokens of the last step; on a GPU the next one runs already."""
        if self._pending is not None:
            (sequences, report), self._pending = self._pending, None
            self._take(sequences, report.records())

    def _take(self, sequences: list[Sequence], records: np.ndarray) -> None:
        """Report each sequence's next token, and end the sequences that it ends."""
        sane = np.isfinite(records["sampled_logprob"])
        for sequence, record, good in zip(sequences, records, sane, strict=True):
            if sequence.finished:  # by a stop that came while this token was being written
                continue
            if good:
                self._append(sequence, record)
            else:
                self._finish(sequence, FinishReason.ERROR, OUT_OF_RANGE)

    def _append(self, sequence: Sequence, record: np.void) -> None:
        token = int(record["id"])
        sequence.ids.append(token)
        if sequence.seen is not None:
            sequence.seen[token] = True
        sequence.ending.feed(self.vocabulary.tokens[token])
        with sequence.run.changed:
            sequence.log.append(record, sequence.ending.released)
            sequence.run.touch()
        self._end_if_over(sequence)

    def _end_if_over(self, sequence: Sequence) -> None:
        """End a sequence whose last token was its last."""
        if sequence.ending.stop_at is not None or (sequence.ending.tokens and sequence.ids[-1] == self.end_id):
            self._finish(sequence, FinishReason.STOP)
        elif sequence.left <= 0:
            self._finish(sequence, FinishReason.LENGTH)

    def _finish(self, sequence: Sequence, reason: str, error: str | None = None) -> None:
        if reason in BY_ITSELF and not sequence.request.only_reads:
            written = sequence.ending.tokens / sequence.request.sampling.max_new_tokens
            self.share_written = smooth(self.share_written, written)
        end = sequence.ending.size if sequence.ending.stop_at is None else sequence.ending.stop_at
        sequence.run.finish(sequence.log, reason, end, error)

    def _keep(self, prefill: Prefill) -> None:
        """Remember a text that was read, for whoever begins with it; of a scored one its last window is enough."""
        if prefill.end == len(prefill.ids):
            ids, records = prefill.ids[prefill.start :], prefill.records if prefill.statistics else None
            self.prefix_cache.keep(ids, prefill.prefix, records, prefill.first - prefill.start)

    def _keep_written(self, sequence: Sequence | None) -> None:
        """Remember what a sequence has written, for whoever goes on from there. One a step: it has to be copied."""
        if (
            sequence is None
            or sequence.log.finish_reason == FinishReason.ERROR
            or not self.prefix_cache.has_room_for(sequence.slot.position)
        ):
            return
        ids = sequence.ids[sequence.window : sequence.window + sequence.slot.position]
        records = None
        if sequence.window == 0 and sequence.request.statistics:
            written = sequence.log.read(len(sequence.read) - len(sequence.request.prompt_ids))
            records = np.concatenate((sequence.read, as_prompt(written)))[: len(ids)]
        try:
            self.prefix_cache.keep(ids, self.cache.prefix_of(sequence.slot), records, sequence.judged)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.prefix_cache.drop()

    def _seat(self, prefill: Prefill) -> None:
        """Let the sequences that waited for a text join the others, with the first tokens that follow it.

        Sequences that find no memory wait on; the others are seated.
        """
        sequences = list(prefill.sequences)
        options = stack_options(sequences, self.config.vocab_size, self.device)
        records = self._choose(prefill.logits.expand(len(sequences), -1), sequences, options).records()
        shared = self.graphs is None and prefill.prefix.length >= SHARE_LENGTH
        shared = shared and len(sequences) + len(prefill.later) >= SHARE_ROWS
        try:
            for sequence in sequences:
                sequence.slot = self.cache.join(sequence, prefill.prefix, shared)
                sequence.read, sequence.judged = prefill.records, prefill.first
                prefill.sequences.remove(sequence)
        finally:
            self._reorder()
            seated = [sequence for sequence in sequences if sequence.slot is not None]
            for sequence in seated:
                sequence.run.set_state(RunState.WRITING)
            self._take(seated, records[: len(seated)])

    def _score_on(self, prefill: Prefill) -> None:
        """Go on with a text that is only scored, of which one window is read."""
        sequences, sane = deque([*prefill.sequences, *prefill.later]), np.isfinite(prefill.records["logprob"])
        if not sane[max(0, prefill.first - prefill.start) :].all():
            for sequence in sequences:
                self._finish(sequence, FinishReason.ERROR, OUT_OF_RANGE)
        else:
            half = max(1, self.config.n_positions // 2)
            self._score(prefill.run, sequences, prefill.ids, prefill.start + half)
            self.prefills.remove(prefill)

    def _restart_if_full(self, sequence: Sequence) -> bool:
        """Let a sequence whose window is full wait until its later half was read anew; True when it must."""
        start = window_start(len(sequence.ids), self.config.n_positions)
        if start == sequence.window:
            return False
        sequence.window = start
        self.prefills.insert(0, self._begin_prefill(sequence.run, [sequence], sequence.ids, start, len(sequence.ids)))
        return True

    # Going

    def _reorder(self) -> None:
        """The batch's order has changed; tokens of the old one have to be handed out before."""
        self._hand_out()
        self.sequences = [slot.sequence for slot in self.cache.slots]
        self._options = None

    def drop_cancelled(self) -> None:
        for sequence in self.everyone():
            if sequence.run.cancelled and not sequence.finished:
                self._finish(sequence, sequence.run.cancelled)
        self._sweep()

    def _sweep(self) -> None:
        """Take finished sequences out of the batch, and send sequences with a full window back to reading."""
        if any(sequence.finished for sequence in self.sequences):
            self._hand_out()
        going = [sequence for sequence in self.sequences if sequence.finished or self._restart_if_full(sequence)]
        self._keep_written(next((sequence for sequence in going if sequence.finished), None))
        for sequence in going:
            self.cache.leave(sequence.slot)
            sequence.slot = None
        if going:
            self._reorder()
        for prefill in self.prefills:
            prefill.sequences[:] = [sequence for sequence in prefill.sequences if not sequence.finished]
            prefill.later = type(prefill.later)(sequence for sequence in prefill.later if not sequence.finished)
        self.prefills = [prefill for prefill in self.prefills if prefill.sequences or prefill.later]

    # When something fails

    def _try_apart(self, error: Exception, parts: list[Part]) -> None:
        """A step failed as a whole: free memory if that was the reason, else do its parts one by one."""
        if poisoned(error):
            raise error
        if out_of_memory(error):
            self._free_memory(error)
        elif parts and (self.sequences or len(parts) > 1):
            log.warning("a step failed (%s); trying its parts", error)
            self._guard(lambda: self._advance(len(self.sequences), []), self.sequences)
            for part in parts:
                self._guard(lambda part=part: self._advance(0, [part]), [*part[0].sequences, *part[0].later])
        else:
            self._fail(
                error, self.sequences if self.sequences else [r for p, _ in parts for r in (*p.sequences, *p.later)]
            )

    def _free_memory(self, error: Exception) -> None:
        """Give up remembered texts; if there are none, the run that came last. The step is tried again."""
        if not self.prefix_cache.drop():
            newest = max(self.admitted(), key=lambda sequence: sequence.arrival).run
            self._fail(error, [sequence for sequence in self.everyone() if sequence.run is newest])

    def _guard(self, work: Callable[[], None], touched: list[Sequence]) -> None:
        """Do `work`; an exception ends the sequences it touched with `error`, and the batch goes on."""
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

    def everyone(self) -> list[Sequence]:
        """All sequences of all runs that were admitted, let in or not."""
        return [*self.admitted(), *(sequence for prefill in self.prefills for sequence in prefill.later)]

    def _fail(self, error: Exception, sequences: list[Sequence]) -> None:
        log.error("a step of the model failed", exc_info=error)
        for sequence in list(sequences):
            self._finish(sequence, FinishReason.ERROR, what_failed(error))
        self._sweep()

    def take_over(self, other: "Batch") -> None:
        """Go on with the sequences of a batch whose device failed: everything is read anew, nothing of it is copied."""
        for slot in other.cache.slots:
            slot.sequence.slot = None
            slot.sequence.window = window_start(len(slot.sequence.ids), self.config.n_positions)
            self.prefills.append(
                self._begin_prefill(
                    slot.sequence.run, [slot.sequence], slot.sequence.ids, slot.sequence.window, len(slot.sequence.ids)
                )
            )
        for old in other.prefills:
            prefill = self._begin_prefill(old.run, old.sequences, old.ids, old.start, old.first, old.end)
            prefill.later = old.later
            self.prefills.append(prefill)
        for sequence in self.everyone():
            sequence.seen = seen_tokens(sequence.request, sequence.ids, self.device)
        for run in {sequence.run for sequence in self.everyone()}:
            run.note_restart()

    def abandon(self, error: Exception) -> None:
        """End every sequence with `error`; the batch must not be used afterwards."""
        for sequence in self.everyone():
            self._finish(sequence, FinishReason.ERROR, what_failed(error))
