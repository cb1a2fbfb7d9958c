"""What the model thought of the tokens it read, and texts that are only scored."""

from collections import deque

import numpy as np
import torch

from generate.interface.log import RunLog
from generate.interface.states import FinishReason
from generate.sampling.records import first_unknown
from generate.sampling.statistics import prompt_records
from generate.scheduling.delivery import OUT_OF_RANGE, Delivery
from generate.scheduling.forward import FEW_LOGITS, Passed
from generate.scheduling.prefill import Part, Prefill, Prefills
from generate.scheduling.sequence import Sequence
from generate.scheduling.window import half_window, windows
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.model import GPT2


def judge(model: GPT2 | Int8GPT2, parts: list[Part], passed: Passed) -> list[tuple[int, np.ndarray]]:
    """What the model thought of the tokens that follow those of each part: the first one's index, and records.

    Those of all parts are judged together, a few at once: each call costs as much as some tokens of a small model.
    """
    places, ids, rows = [prefill.judged(count) for prefill, count in parts], [], []
    for (prefill, _), start, judged in zip(parts, passed.starts, places, strict=False):
        ids += prefill.shown[judged.start : judged.stop]
        rows += range(start + judged.start - 1 - prefill.next, start + judged.stop - 1 - prefill.next)
    found = [prefill.records[:0] for prefill, _ in parts[:1]]
    for low in range(0, len(ids), FEW_LOGITS):
        some, device = rows[low : low + FEW_LOGITS], passed.hidden.device
        known = model.logits(passed.hidden[some]) if passed.every is None else passed.every[some]
        found.append(prompt_records(known, torch.tensor(ids[low : low + FEW_LOGITS], device=device)))
    ends = np.cumsum([len(judged) for judged in places])
    apart = np.split(np.concatenate(found), ends[:-1]) if parts else []
    return [(judged.start, records) for judged, records in zip(places, apart, strict=True)]


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
