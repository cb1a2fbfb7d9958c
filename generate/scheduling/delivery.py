"""From the numbers of a step to tokens in a run's log, and to the end of samples."""

from collections.abc import Iterable

import numpy as np

from generate.errors import Problem
from generate.interface.states import BY_ITSELF, FinishReason
from generate.sampling.statistics import Report
from generate.scheduling.pace import smooth
from generate.scheduling.sequence import Sequence
from generate.text.vocabulary import Vocabulary

OUT_OF_RANGE = Problem("The model's numbers ran out of range (NaN or infinity).")


class Delivery:
    """Hands tokens out. `pending` is the last step's report while the next step may already run on a GPU."""

    def __init__(self, vocabulary: Vocabulary, end_ids: Iterable[int]):
        self.vocabulary, self.end_ids = vocabulary, frozenset(end_ids)
        self.pending: tuple[list[Sequence], Report] | None = None
        self.share_written = 1.0  # of the tokens that sequences may write at the most, how many they did of late

    def deliver(self) -> None:
        """Hand out what is pending."""
        if self.pending is not None:
            (sequences, report), self.pending = self.pending, None
            self.take(sequences, report.records())

    def take(self, sequences: list[Sequence], records: np.ndarray) -> None:
        """Report each sequence's next token, and end the sequences that it ends."""
        sane = np.isfinite(records["sampled_logprob"])
        for sequence, record, good in zip(sequences, records, sane, strict=True):
            if sequence.finished:  # by a stop that came while this token was being written
                continue
            if good:
                self.append(sequence, record)
            else:
                self.finish(sequence, FinishReason.ERROR, OUT_OF_RANGE)

    def append(self, sequence: Sequence, record: np.void) -> None:
        """Add a token's record to its sequence and to the run's log; end the sequence if it was the last."""
        token = int(record["id"])
        sequence.ids.append(token)
        sequence.past.append(token)
        sequence.ending.feed(self.vocabulary.tokens[token])
        with sequence.run.changed:
            sequence.log.append(record, sequence.ending.released)
            sequence.run.touch()
        self.end_if_over(sequence)

    def end_if_over(self, sequence: Sequence) -> None:
        """End a sequence whose last token was its last."""
        if sequence.ending.stop_at is not None or (sequence.ending.tokens and sequence.ids[-1] in self.end_ids):
            self.finish(sequence, FinishReason.STOP)
        elif sequence.left <= 0:
            self.finish(sequence, FinishReason.LENGTH)

    def finish(self, sequence: Sequence, reason: str, error: Problem | None = None) -> None:
        """End a sequence; what holds its memory is cleared at the next sweep of the batch."""
        if reason in BY_ITSELF and not sequence.request.only_reads:
            written = sequence.ending.tokens / sequence.request.sampling.max_new_tokens
            self.share_written = smooth(self.share_written, written)
        end = sequence.ending.size if sequence.ending.stop_at is None else sequence.ending.stop_at
        sequence.run.finish(sequence.log, reason, end, error)
