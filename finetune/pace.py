"""How many steps fit into the minutes that a person has."""

import time
from collections.abc import Callable

import torch
from torch import distributed
from transformers import TrainerCallback

from finetune.options import Options
from finetune.processes import together
from finetune.stopping import Stop

WARM, TIMED = 1, 3  # steps: the first one also allocates, and compiles
SHARE, LEAST, MOST = 0.03, 2.0, 20.0  # of the time there is, in seconds: a machine has better and worse moments
RESERVE = 0.97  # of what is left: what comes after the last step takes time too


class Pace(TrainerCallback):
    """Times the steps of a training that is stopped, and thrown away, as soon as they tell."""

    def __init__(self, budget: float):
        self.least = min(MOST, max(LEAST, SHARE * budget))
        self.stop = Stop()  # never entered: it carries the end to all processes
        self.seconds = 0.0  # a step

    def on_step_end(self, args, state, control, **kwargs):
        """Time the step; end the training when enough of them are timed."""
        timed = state.global_step - WARM
        if timed in (0, TIMED) or timed > TIMED:
            settle(args.device)
        if timed == 0:
            self.begun = time.perf_counter()
        if timed >= TIMED:
            spent = time.perf_counter() - self.begun
            self.seconds, self.stop.asked = spent / timed, spent >= self.least
        if self.stop.agreed(args.device):
            control.should_training_stop = True


def settle(device: torch.device) -> None:
    """Wait for what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_for(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def steps_in(seconds: float, pace: float, options: Options, evaluation: float, sample: float) -> int:
    """Optimizer steps that fit into `seconds` beside the evaluations and samples, of which each takes so long; at least one.

    Ten of each, or the one at the end, are known beforehand; those that come every so many steps make each step dearer.
    """
    rest, each = seconds * RESERVE, pace
    for every, cost in ((options.evaluate_every, evaluation), (options.sample_every, sample)):
        if every > 0:
            each += cost / every
        rest -= cost * {-1: 10, 0: 1}.get(every, 1)
    return max(1, int(rest / each))


def agreed(steps: int, device: torch.device) -> int:
    """The same number in all processes: the smallest."""
    if not together():
        return steps
    least = torch.tensor(steps, device=device)
    distributed.all_reduce(least, distributed.ReduceOp.MIN)
    return int(least)
