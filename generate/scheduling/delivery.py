"""From the numbers of a step to tokens in a run's log, and to the end of samples."""

from collections.abc import Callable, Iterable
from copy import copy

import numpy as np

from generate.errors import Problem
from generate.interface.log import RunLog
from generate.interface.states import BY_ITSELF, FinishReason
from generate.sampling.statistics import Report
from generate.scheduling.endings import how_over
from generate.scheduling.held_back import Written
from generate.scheduling.pace import smooth
from generate.scheduling.sequence import Sequence
from generate.text.vocabulary import Vocabulary

OUT_OF_RANGE = Problem("The model's numbers ran out of range (NaN or infinity).")
NO_WAY_ON = Problem("The text ends here: each way on that was tried leads to a banned phrase.")


class Delivery:
    """Hands tokens out. `pending` is the last step's report while the next step may already run on a GPU.

    `settle` is called with a run before it ends, so that nothing of it is found out later.
    """

    def __init__(self, vocabulary: Vocabulary, end_ids: Iterable[int], settle: Callable[[RunLog], None]):
        self.vocabulary, self.end_ids, self._settle = vocabulary, frozenset(end_ids), settle
        self.pending: tuple[list[Sequence], Report] | None = None
        self.share_written = 1.0  # of the tokens that sequences may write at the most, how many they did of late

    def deliver(self) -> None:
        """Hand out what is pending."""
        if self.pending is not None:
            (sequences, report), self.pending = self.pending, None
            self.take(sequences, report.records())

    def take(self, sequences: list[Sequence], records: np.ndarray) -> None:
        """Report each sequence's next token, and end the sequences that it ends."""
        sane = np.isfinite(records["sampled_logprob"]).tolist()
        for sequence, record, token, good in zip(sequences, records, records["id"].tolist(), sane, strict=True):
            if sequence.finished:  # by a stop that came while this token was being written
                continue
            if good:
                self.append(sequence, record, token)
            else:
                self.finish(sequence, FinishReason.ERROR, OUT_OF_RANGE)

    def append(self, sequence: Sequence, record: np.void, token: int) -> None:
        """Add a token and its record to its sequence and to the run's log; end the sequence if it was the last.

        Where phrases are banned, what may be the beginning of one is held back, and taken back where it was.
        """
        held_back = sequence.held_back
        data = self.vocabulary.tokens[token]
        before = None if held_back is None or held_back.passes(data) else copy(sequence.ending)
        sequence.ids.append(token)
        sequence.past.append(token)
        sequence.ending.feed(data)
        if before is None:
            self.log(sequence, [(record, held_back.let_pass() if held_back else ())])
        elif count := held_back.add(record, data, before, sequence.ending):
            if not sequence.take_back(count):
                self.finish(sequence, FinishReason.ERROR, NO_WAY_ON)
            return
        else:
            self.log(sequence, held_back.sure())
        self.end_if_over(sequence)

    def log(self, sequence: Sequence, written: list[Written]) -> None:
        """Add tokens to a run's log."""
        if not written:
            return
        # of what is held back nothing may count: with other tokens there, less might be shown
        ending = (sequence.held_back and sequence.held_back.ending) or sequence.ending
        with sequence.run.changed:
            for record, blocked in written:
                sequence.log.append(record, ending.released, blocked)
            sequence.run.touch()

    def end_if_over(self, sequence: Sequence) -> None:
        """End a sequence whose last token was its last."""
        sampling = sequence.request.sampling
        reason = how_over(sequence.ending, sequence.ids, sampling, self.end_ids, self.vocabulary)
        if reason is not None:
            self.finish(sequence, reason)

    def finish(self, sequence: Sequence, reason: str, error: Problem | None = None) -> None:
        """End a sequence; what holds its memory is cleared at the next sweep of the batch."""
        if reason in BY_ITSELF and not (sequence.request.only_reads or sequence.request.yields):
            written = sequence.ending.tokens / sequence.request.sampling.max_new_tokens
            self.share_written = smooth(self.share_written, written)
        if sequence.held_back is not None and not sequence.finished:
            if reason in BY_ITSELF:
                self.log(sequence, sequence.held_back.rest())
            else:
                sequence.drop_held_back()
        if reason != FinishReason.ERROR and len(sequence.log):
            self._settle(sequence.run)
        end = sequence.ending.size if sequence.ending.stop_at is None else sequence.ending.stop_at
        sequence.run.finish(sequence.log, reason, end, error)
