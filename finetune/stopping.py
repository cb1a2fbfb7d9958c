"""Ctrl-C and SIGTERM: the step at hand is finished and saved first; a second Ctrl-C does not wait."""

import signal
from types import FrameType

import torch
from torch import distributed

from finetune.processes import together


class Stop:
    """While entered, notes the wish to stop. Several processes stop at the same step, whichever was told."""

    def __init__(self):
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def agreed(self, device: torch.device) -> bool:
        """Whether any of the training's processes was asked to stop; all of them must call it in the same step."""
        if not together():
            return self.asked
        flag = torch.tensor(int(self.asked), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)
