"""The running batch of one loaded model: sequences join, and read, write and leave together.

A step is one pass of the model over the next token of every running sequence and, beside them, some tokens of the texts
that others wait for. Nothing counts as done before the pass is through: a step that fails can be tried again in parts.
"""

import torch

from generate.errors import what_failed
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason, RunState
from generate.interface.tally import Tally
from generate.sampling.statistics import Report
from generate.scheduling.admission import Admission
from generate.scheduling.choosing import choose_next
from generate.scheduling.decoding import Decoding
from generate.scheduling.delivery import Delivery
from generate.scheduling.failures import guard, judge_some, seat_apart, try_apart
from generate.scheduling.forward import Passed, Work, forward
from generate.scheduling.judging import Judging, first_to_judge, judge, unjudged
from generate.scheduling.memory import rows_that_fit
from generate.scheduling.pace import MOST_TOKENS, Pace
from generate.scheduling.past import Past
from generate.scheduling.prefill import Prefill, Prefills
from generate.scheduling.prefix_cache import PrefixCache
from generate.scheduling.scoring import Scoring
from generate.scheduling.sequence import Sequence
from generate.scheduling.stacking import stack_options
from generate.scheduling.window import window_start
from generate.transformer.graphs import Graphs
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.kv_cache import SHARE_LENGTH, SHARE_ROWS, kv_bytes
from generate.transformer.model import GPT2


class Batch:
    """All work in progress on one model: it owns the parts, and the order of things."""

    def __init__(
        self,
        model: GPT2 | Int8GPT2,
        folder: ModelFolder,
        max_rows: int,
        prefix_bytes: int = 0,
        tally: Tally | None = None,
    ):
        self.model, self.config, self.device = model, model.config, model.device
        self.max_rows = min(max_rows, rows_that_fit(model))
        self.cache = model.new_cache(self.max_rows, prefix_bytes)
        self.graphs = Graphs(model, self.cache) if model.device.type == "cuda" else None
        self.look_ahead = model.device.type == "cuda"  # begin a step before the last one's tokens are handed out
        self.pace, self.tally = Pace(), tally or Tally()
        self.prefix_cache = PrefixCache(prefix_bytes, kv_bytes(model.config, 1, model.dtype))
        self.decoding = Decoding(self.cache, model.config.vocab_size, model.device)
        self.prefills = Prefills(self.cache, self.prefix_cache)
        self.judging = Judging(model, self.prefills.known_whole)
        self.delivery = Delivery(folder.tokenizer.vocabulary, folder.end_ids, self.judging.settle)
        self.scoring = Scoring(self.prefills, self.delivery, model.config.n_positions)
        self.admission = Admission(self.prefills, self.delivery, self.scoring, model.device)

    # Who is here

    @property
    def sequences(self) -> list[Sequence]:
        """The running sequences, in the cache's order."""
        return self.decoding.sequences

    def admitted(self) -> list[Sequence]:
        """Sequences that are let in: writing, or waiting for their text to be read."""
        return [*self.sequences, *(sequence for prefill in self.prefills for sequence in prefill.sequences)]

    def everyone(self) -> list[Sequence]:
        """All sequences of all runs that were admitted, let in or not."""
        return [*self.admitted(), *(sequence for prefill in self.prefills for sequence in prefill.later)]

    @property
    def held(self) -> int:
        """How many sequences are let in."""
        return len(self.sequences) + sum(len(prefill.sequences) for prefill in self.prefills)

    @property
    def busy(self) -> bool:
        """Whether any sequence is let in."""
        return self.held > 0

    @property
    def has_room(self) -> bool:
        """Whether one more sequence may be let in."""
        return self.held < self.max_rows

    def admit(self, request: Request, run: RunLog, count: int | None = None) -> None:
        """Take a run in; `count` of its samples may write at once (all, by default)."""
        self.admission.admit(request, run, count)

    def let_in(self, run: RunLog) -> None:
        """One more sample of a run that was admitted may write."""
        self.admission.let_in(run)

    # A step

    def step(self) -> None:
        """Write one token of every running sequence, and read some of the texts that others wait for."""
        work = self.schedule()
        try:
            self.make_room()
            self.pace.begin()
            self.do(work)
            judge_some(self, work.judged)
            seconds = self.pace.end(len(self.sequences), work.tokens, work.judged)
            self.tally.step(seconds, len(self.sequences), work.tokens)
        except Exception as error:
            try_apart(self, error, work)
        self.seat_what_is_read()
        self.sweep()

    def schedule(self) -> Work:
        """What to do in this step, once what has ended is gone.

        It reads as long as there is something to read: somebody waits for it. What was read is judged after that, or
        before where much is left.
        """
        self.sweep()
        rows, waiting = len(self.sequences), self.judging.tokens
        parts = self.prefills.plan(self.pace.budget(rows)) if waiting < MOST_TOKENS else []
        judged = 0 if parts else min(waiting, self.pace.may_judge(rows))
        if parts or not (self.delivery.pending is None or self.decoding.may_go_ahead()):
            self.delivery.deliver()
            self.sweep()
        return Work(True, parts, judged)

    def make_room(self) -> None:
        """Have a place in the cache for each sequence's next token."""
        try:
            moved = True
            moved = self.cache.make_room()
        finally:
            if moved:
                self.reorder()

    def do(self, work: Work) -> None:
        """All that can fail for want of memory or by the device comes before `hand_out`; till then nothing is done."""
        if not work.parts and not (work.decode and self.sequences):
            return
        passed = forward(self.model, self.graphs, self.decoding, work)
        chosen = choose_next(passed.logits, self.sequences, self.decoding.options) if passed.rows else None
        read = unjudged(work.parts, passed)
        scored = [one for one in read if one.prefill.only_scored]
        found = judge(self.model, scored)
        for one, records in zip(scored, found, strict=True):
            one.prefill.note(one.place, records)
        self.judging.put_off(one for one in read if not one.prefill.only_scored)
        self.hand_out(work, passed, chosen)

    def hand_out(self, work: Work, passed: Passed, chosen: Report | None) -> None:
        """Note what was read, and hand out what was written; on a GPU that waits until the next step runs."""
        for prefill, count in work.parts:
            prefill.prefix.length += count
        waiting = self.judging.runs
        for number, logits in zip(passed.ended, passed.last, strict=True):
            prefill = work.parts[number][0]
            prefill.logits = logits
            if prefill.run not in waiting:
                self.prefills.known_whole(prefill)
        if chosen is not None:
            self.decoding.written(chosen.ids)
            self.delivery.deliver()
            self.delivery.pending = self.sequences, chosen
            if not self.look_ahead:
                self.delivery.deliver()

    # Between reading and writing

    def seat_what_is_read(self) -> None:
        """Let go on what waited for a text that is read now: writing, or reading the next window of a scored text."""
        read = [prefill for prefill in self.prefills if prefill.is_read]
        scored = [prefill for prefill in read if prefill.only_scored]
        for prefill in scored:
            guard(self, lambda prefill=prefill: self.scoring.go_on(prefill), prefill.everyone)
        seat_apart(self, [prefill for prefill in read if prefill not in scored and prefill.is_read])

    def seat(self, prefills: list[Prefill]) -> None:
        """Let the sequences that waited for some texts join the others, with the first tokens that follow those.

        Sequences that find no memory wait on; the others are seated.
        """
        sequences = [sequence for prefill in prefills for sequence in prefill.sequences]
        options = stack_options(sequences, self.config.vocab_size, self.device)
        logits = torch.cat([prefill.logits.expand(len(prefill.sequences), -1) for prefill in prefills])
        records = choose_next(logits, sequences, options).records()
        try:
            for prefill in prefills:
                shared = self.graphs is None and prefill.prefix.length >= SHARE_LENGTH
                shared = shared and len(prefill.everyone) >= SHARE_ROWS
                for sequence in list(prefill.sequences):
                    sequence.slot = self.cache.join(sequence, prefill.prefix, shared)
                    sequence.read, sequence.judged = prefill.records, prefill.first
                    prefill.sequences.remove(sequence)
        finally:
            self.reorder()
            seated = [sequence for sequence in sequences if sequence.slot is not None]
            for sequence in seated:
                sequence.run.set_state(RunState.WRITING)
            self.delivery.take(seated, records[: len(seated)])
            self.tally.written += len(seated)
            for sequence in seated:
                sequence.run.count_first_token()

    def reorder(self) -> None:
        """The batch's order has changed; tokens of the old one have to be handed out before."""
        self.delivery.deliver()
        self.decoding.reorder()

    # Going

    def cancel(self, run: RunLog, reason: str = FinishReason.CANCELLED) -> None:
        """End a run's sequences and clear them out."""
        for sequence in self.everyone():
            if sequence.run is run and not sequence.finished:
                self.delivery.finish(sequence, reason)
        self.sweep()

    def sweep(self) -> None:
        """Take finished sequences out of the batch, and send those back to reading whose window is another one."""
        if any(sequence.finished for sequence in self.sequences):
            self.delivery.deliver()
        going = [sequence for sequence in self.sequences if sequence.finished or self.must_read_again(sequence)]
        ended = next((sequence for sequence in going if sequence.finished), None)
        if ended is not None:  # one a step is remembered: it has to be copied
            self.prefix_cache.keep_written(ended, self.cache)
        for sequence in going:
            self.cache.leave(sequence.slot)
            sequence.slot = None
        if going:
            self.reorder()
        self.prefills.drop_finished()
        self.judging.drop_finished()

    def must_read_again(self, sequence: Sequence) -> bool:
        """Let a sequence whose window is full wait until its later half was read anew, and one that took tokens back
        until its text was, if it cannot go on from what the cache holds; True when it must."""
        start = window_start(len(sequence.ids), self.config.n_positions)
        if start == sequence.window and not sequence.went_back:
            return False
        if sequence.went_back:
            sequence.past, sequence.went_back = Past.of(sequence.request, sequence.ids, self.device), False
            if start == sequence.window and self.cache.rewind(sequence.slot, len(sequence.ids) - 1 - start):
                self.reorder()
                return False
        sequence.window = start
        self.prefills.insert(0, self.prefills.begin_again(sequence))
        return True

    def take_over(self, other: "Batch") -> None:
        """Go on with the sequences of a batch whose device failed: all is read anew, nothing of it is copied."""
        unknown = other.judging.runs
        for slot in other.cache.slots:
            sequence, first = slot.sequence, None
            sequence.slot = None
            sequence.window = window_start(len(sequence.ids), self.config.n_positions)
            if sequence.run in unknown:
                first = first_to_judge(sequence.run, sequence.request, len(sequence.ids), sequence.window)
                unknown.remove(sequence.run)
            self.prefills.append(self.prefills.begin_again(sequence, first))
        for old in other.prefills:
            prefill = self.prefills.begin(old.run, old.sequences, old.ids, old.n_keep, old.start, old.first, old.end)
            prefill.later = old.later
            self.prefills.append(prefill)
        for sequence in self.everyone():
            sequence.past, sequence.went_back = Past.of(sequence.request, sequence.ids, self.device), False
        for run in {sequence.run for sequence in self.everyone()}:
            run.note_restart()

    def abandon(self, error: Exception) -> None:
        """End every sequence with `error`; the batch must not be used afterwards."""
        for sequence in self.everyone():
            self.delivery.finish(sequence, FinishReason.ERROR, what_failed(error))
