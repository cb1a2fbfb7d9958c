"""Texts that are only scored."""

from collections import deque

import numpy as np

from generate.interface.log import RunLog
from generate.interface.states import FinishReason
from generate.sampling.records import first_unknown
from generate.scheduling.delivery import OUT_OF_RANGE, Delivery
from generate.scheduling.prefill import Prefill, Prefills
from generate.scheduling.sequence import Sequence
from generate.scheduling.window import half_window, windows


class Scoring:
    """Texts that are only scored, one window after another; others' texts are read in between."""

    def __init__(self, prefills: Prefills, delivery: Delivery, n_positions: int):
        self._prefills, self._delivery, self._most = prefills, delivery, n_positions

    def next_window(self, run: RunLog, sequences: deque[Sequence], ids: list[int], start: int) -> None:
        """Read the next window of a text, from the one at `start` on; its sequences end with the last.

        Windows in which all is known are left out.
        """
        count = len(ids)
        for window, first, end in windows(count, self._most, start):
            first = first_unknown(run.prompt, first, end)
            if first < end:
                one, last = sequences[0], min(window + self._most, count)
                prefill = self._prefills.begin(run, [one], ids, one.request.n_keep, window, first, last)
                prefill.later.extend(sequence for sequence in sequences if sequence is not one)
                self._prefills.append(prefill)
                return
        for sequence in sequences:
            self._delivery.finish(sequence, FinishReason.LENGTH)

    def go_on(self, prefill: Prefill) -> None:
        """Go on with a text of which one window is read."""
        sequences, sane = deque(prefill.everyone), np.isfinite(prefill.records["logprob"])
        if not sane[max(0, prefill.first - prefill.start) :].all():
            for sequence in sequences:
                self._delivery.finish(sequence, FinishReason.ERROR, OUT_OF_RANGE)
        else:
            self.next_window(prefill.run, sequences, prefill.ids, prefill.start + half_window(self._most))
            self._prefills.remove(prefill)
