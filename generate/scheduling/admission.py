"""Runs and their samples come into a batch."""

import logging
from collections import deque

import torch

from generate.errors import what_failed
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason, RunState
from generate.scheduling.delivery import Delivery
from generate.scheduling.judging import first_to_judge
from generate.scheduling.prefill import Prefills
from generate.scheduling.scoring import Scoring
from generate.scheduling.sequence import new_sequences

log = logging.getLogger(__name__)


class Admission:
    """Turns a run into sequences that wait for their text to be read."""

    def __init__(self, prefills: Prefills, delivery: Delivery, scoring: Scoring, device: torch.device):
        self._prefills, self._delivery, self._scoring, self._device = prefills, delivery, scoring, device
        self._arrivals = 0  # runs so far

    def admit(self, request: Request, run: RunLog, count: int | None = None) -> None:
        """Take a run in: its prompt is read once. `count` of its samples may write (all, by default), the rest `later`.

        A run that was written in part goes on: each sample's text is read up to its last token. One that only reads
        takes no slot: its samples end when its text is read. A run that cannot be admitted ends with an error.
        """
        run.set_state(RunState.READING)
        vocabulary = self._delivery.vocabulary
        try:
            self._arrivals += 1
            new = new_sequences(request, run, self._arrivals, vocabulary, self._device)
            if request.only_reads and new:
                self._scoring.next_window(run, deque(new), run.prompt_ids, 0)
                return
            for sequence in new:
                self._delivery.end_if_over(sequence)
            going = [sequence for sequence in new if not sequence.finished]
            if not going:
                return
            first = going[0]
            ids = list(first.ids)
            judged = first_to_judge(run, request, len(ids), first.window)
            prefill = self._prefills.begin(run, [first], ids, request.n_keep, first.window, judged)
            prefill.later.extend(going[1:])
            self._prefills.append(prefill)
            for _ in range((count or len(going)) - 1):
                self.let_in(run)
        except Exception as error:
            log.exception("a run could not be admitted")
            for sample in run.samples:
                run.finish(sample, FinishReason.ERROR, sample.size(vocabulary), what_failed(error))

    def let_in(self, run: RunLog) -> None:
        """One more sample of a run that was admitted may write."""
        prefill = self._prefills.with_later(run)
        if prefill is None:
            return
        sequence = prefill.later.popleft()
        if sequence.ids == prefill.ids:
            prefill.sequences.append(sequence)
        else:  # the run goes on, and this sample has a text of its own
            self._prefills.append(self._prefills.begin_again(sequence))
