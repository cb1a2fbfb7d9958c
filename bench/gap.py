"""Does a long prompt freeze the others? Rows are being written when a prompt of 900 tokens enters.

Measured on the engine without a server: the longest gap between two tokens of any other row, from the prompt's
admission until its own fifth token, over the median gap of those rows before. The bound is 1: a prompt that cost nobody
anything. One hiccup of the machine makes a longest gap, so the ratio is the median of some rounds.
"""

import time

import torch

from bench.measure import median
from bench.ours import LONG, Ours, admit, cancel, usual
from bench.shapes import prompts

PROMPT, ENTERING, BEFORE = 32, 900, 24


class Gap(Ours):
    """One precision of the engine, and rows whose gaps are watched."""

    @torch.inference_mode()
    def enter(self, rows: int, seed: str) -> tuple[float, float]:
        """Seconds of the longest gap while the long prompt enters, and of the median gap before."""
        runs = admit(self.batch, self.folder, prompts(rows, PROMPT, f"others {seed}"), usual(rows, LONG))
        while not all(len(run.samples[0]) for run in runs):
            self.batch.step()
        before = self.gaps(runs, lambda number: number == BEFORE)
        entering = admit(self.batch, self.folder, prompts(1, ENTERING, f"long {seed}"), usual(1, LONG))
        meanwhile = self.gaps(runs, lambda _: len(entering[0].samples[0]) >= 5)
        cancel(self.batch, runs + entering)
        return max(meanwhile), median(before)

    def gaps(self, runs: list, over) -> list[float]:
        """Step until `over(number of steps)`; returns the gaps between tokens of each of `runs`."""
        counts, gaps, number = [len(run.samples[0]) for run in runs], [], 0
        last = [time.perf_counter()] * len(runs)
        while not over(number):
            self.batch.step()
            number, now = number + 1, time.perf_counter()
            for place, run in enumerate(runs):
                if len(run.samples[0]) > counts[place]:
                    gaps.append(now - last[place])
                    counts[place], last[place] = len(run.samples[0]), now
        return gaps
