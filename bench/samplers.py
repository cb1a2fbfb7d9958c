"""What the samplers cost that are off by default: a decode step with all of them on, over one with none.

Two batches of the same model take steps in turns, so that both meet the same moments of the machine; the rows of both
have the prompts and the usual top_k of the other parts. The ratio is that of the median steps.
"""

import time

import torch

from bench.measure import median
from bench.ours import LONG, Ours, admit, cancel, usual
from bench.shapes import SAMPLING, prompts
from generate import Sampling, parse_sampling

ALL_ON = {
    **{"min_p": 0.05, "top_n_sigma": 3, "xtc_probability": 0.5, "xtc_threshold": 0.1, "dry_multiplier": 0.8},
    **{"frequency_penalty": 0.1, "presence_penalty": 0.1, "logit_bias": ["5 = 1", "7 = -1"]},
}
PROMPT = 32


class Samplers(Ours):
    """One precision of the engine, as two batches."""

    @torch.inference_mode()
    def compare(self, rows: int, steps: int, seed: str) -> tuple[float, float]:
        """Seconds of the median step of so many rows with none of the samplers, and with all."""
        batches = (self.batch, self.beside(rows))
        wishes = (usual(rows, LONG), everything(rows))
        texts = prompts(rows, PROMPT, f"samplers {seed}")
        runs = [admit(batch, self.folder, texts, wish) for batch, wish in zip(batches, wishes, strict=True)]
        times: tuple[list[float], list[float]] = [], []
        for batch in batches:
            while batch.prefills or len(batch.sequences) < rows:
                batch.step()
        for _ in range(steps):
            for batch, spent in zip(batches, times, strict=True):
                begun = time.perf_counter()
                batch.step()
                spent.append(time.perf_counter() - begun)
        for batch, some in zip(batches, runs, strict=True):
            cancel(batch, some)
        return median(times[0]), median(times[1])


def everything(count: int) -> list[Sampling]:
    """What the rows with all samplers are asked for; each with a seed of its own."""
    return [parse_sampling(SAMPLING | ALL_ON | {"max_new_tokens": LONG, "seed": seed}) for seed in range(count)]
