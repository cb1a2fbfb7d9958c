"""What the model thought of the tokens that it read: at once for texts that are only scored, else after their first token.

Whoever waits for a prompt to be read waits for the token that follows, which its last token alone tells. Telling what the
model thought of all the others takes it, at the shapes we serve, a third to a half as long as the reading.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.sampling.records import first_unknown
from generate.sampling.statistics import prompt_records
from generate.scheduling.forward import FEW_LOGITS, Passed
from generate.scheduling.memory import poisoned
from generate.scheduling.prefill import Part, Prefill
from generate.scheduling.window import as_seen, window_start
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.model import GPT2

log = logging.getLogger(__name__)


@dataclass(eq=False, frozen=True)
class Unjudged:
    """Tokens of a text that are read: `hidden` [N, n_embd] tell what the model thought of `shown[place : place + N]`."""

    prefill: Prefill
    place: int
    hidden: Tensor

    @property
    def ids(self) -> list[int]:
        """The tokens that are to be judged."""
        return self.prefill.shown[self.place : self.place + len(self.hidden)]

    def split(self, count: int) -> tuple["Unjudged", "Unjudged"]:
        """The first `count` tokens, and the rest."""
        head, tail = self.hidden[:count], self.hidden[count:]
        return replace(self, hidden=head), replace(self, place=self.place + count, hidden=tail)


class Judging:
    """Judges tokens in the order in which they were read. `whole` is called with each text whose last token is judged."""

    def __init__(self, model: GPT2 | Int8GPT2, whole: Callable[[Prefill], None]):
        self._model, self._whole = model, whole
        self._waiting: deque[Unjudged] = deque()

    @property
    def tokens(self) -> int:
        """How many tokens that were read wait."""
        return sum(len(one.hidden) for one in self._waiting)

    @property
    def runs(self) -> set[RunLog]:
        """The runs of which some tokens wait."""
        return {one.prefill.run for one in self._waiting}

    def put_off(self, read: Iterable[Unjudged]) -> None:
        """Judge these later."""
        self._waiting.extend(one for one in read if len(one.hidden))

    def go_on(self, count: int) -> None:
        """Judge the `count` tokens that wait longest. Where that fails they wait on."""
        some: list[Unjudged] = []
        rest = deque(self._waiting)
        while rest and count > 0:
            one = rest.popleft()
            if len(one.hidden) > count:
                one, later = one.split(count)
                rest.appendleft(later)
            count -= len(one.hidden)
            some.append(one)
        self._note(some)
        self._waiting = rest

    def give_up(self) -> None:
        """Leave unknown what waits."""
        for one in self._waiting:
            one.prefill.run.close_prompt()
        self._waiting.clear()

    def settle(self, run: RunLog) -> None:
        """Judge at once what waits of a run that is about to end. Where that fails, its numbers stay unknown.

        Raises what tells that the device failed.
        """
        some = [one for one in self._waiting if one.prefill.run is run]
        if not some:
            return
        self._waiting = deque(one for one in self._waiting if one.prefill.run is not run)
        try:
            self._note(some)
        except Exception as error:
            if poisoned(error):
                raise
            log.exception("what the model thought of a prompt stays unknown")

    def drop_finished(self) -> None:
        """Forget the tokens of runs that have ended."""
        if self._waiting:
            self._waiting = deque(one for one in self._waiting if not one.prefill.run.done)

    def _note(self, some: list[Unjudged]) -> None:
        for one, found in zip(some, judge(self._model, some), strict=True):
            one.prefill.note(one.place, found)
            if one.place + len(found) == len(one.prefill.ids):
                self._whole(one.prefill)


def unjudged(parts: list[Part], passed: Passed) -> list[Unjudged]:
    """The tokens of which parts of texts tell that a pass has read."""
    found = []
    for (prefill, count), start in zip(parts, passed.starts, strict=False):
        places = prefill.judged(count)
        first = int(start) + places.start - 1 - prefill.next
        found.append(Unjudged(prefill, places.start, passed.hidden[first : first + len(places)]))
    return found


def judge(model: GPT2 | Int8GPT2, some: list[Unjudged]) -> list[np.ndarray]:
    """Records of the tokens of each.

    Those of all are judged together, some at once: each call costs as much as some tokens of a small model.
    """
    if not some:
        return []
    ids, hidden = torch.tensor([index for one in some for index in one.ids]), torch.cat([one.hidden for one in some])
    found = [some[0].prefill.records[:0]]
    for low in range(0, len(ids), FEW_LOGITS):
        logits = model.logits(hidden[low : low + FEW_LOGITS])
        found.append(prompt_records(logits, ids[low : low + FEW_LOGITS].to(logits.device)))
    return np.split(np.concatenate(found), np.cumsum([len(one.hidden) for one in some])[:-1])


def first_to_judge(run: RunLog, request: Request, count: int, window: int) -> int:
    """Index of the first token to be judged where the `count` tokens since the root of one of a run's samples are read from
    index `window` on; `count` where there is none.

    A run that begins in its first window is judged whole, also where all is known: the text is remembered for runs that
    may know less of it. One that goes on in another window than the prompt's own is not: it would get other numbers.
    """
    prompt = len(run.prompt)
    if not request.statistics or window != window_start(prompt, request.folder.config.n_positions):
        return count
    if not window and not any(map(len, run.samples)):
        return 1
    first = first_unknown(run.prompt[as_seen(range(prompt), window, request.n_keep)], window + 1, prompt)
    return first if first < prompt else count
