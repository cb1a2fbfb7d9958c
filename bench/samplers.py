"""What the samplers cost that are off by default: a decode step with all of them on, over one with none.

Two batches of the same model, each as old as the other, take steps in turns, so that both meet the same moments of the
machine; the rows of both have the prompts and the usual top_k of the other parts. The ratio is that of the median steps.
"""

from pathlib import Path

import torch

from bench.measure import median
from bench.ours import LONG, Ours, admit, cancel, read_all, timed_step, usual
from bench.shapes import SAMPLING, prompts
from generate import Sampling, parse_sampling

ALL_ON = {
    **{"min_p": 0.05, "top_n_sigma": 3, "xtc_probability": 0.5, "xtc_threshold": 0.1, "dry_multiplier": 0.8},
    **{"frequency_penalty": 0.1, "presence_penalty": 0.1, "logit_bias": ["5 = 1", "7 = -1"]},
    **{"banned_phrases": ["the end of the world", "zebra crossing"]},
}
PROMPT, STEPS = 32, 40


class Samplers(Ours):
    """One precision of the engine, as two batches."""

    @torch.inference_mode()
    def load(self, path: Path) -> None:
        super().load(path)
        self.other = self.beside()

    @torch.inference_mode()
    def compare(self, rows: int, seed: str) -> tuple[float, float]:
        """Seconds of the median step of so many rows with all of the samplers, and with none."""
        batches, wishes = (self.other, self.batch), (everything(rows), usual(rows, LONG))
        texts = prompts(rows, PROMPT, f"samplers {seed}")
        runs = [admit(batch, self.folder, texts, wish) for batch, wish in zip(batches, wishes, strict=True)]
        for batch in batches:
            read_all(batch, rows)
        steps = [[timed_step(batch) for batch in batches] for _ in range(STEPS)]
        for batch, some in zip(batches, runs, strict=True):
            cancel(batch, some)
        on, off = (median(times) for times in zip(*steps, strict=True))
        return on, off


def everything(count: int) -> list[Sampling]:
    """What the rows with all samplers are asked for; each with a seed of its own."""
    return [parse_sampling(SAMPLING | ALL_ON | {"max_new_tokens": LONG, "seed": seed}) for seed in range(count)]
