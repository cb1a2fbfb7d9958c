"""Same seed, same ids? Runs written alone, again in a batch full of strangers who come and go, and again after a cut.

Measured: the share of ids that are equal, place by place, and of runs that are equal to the end, per precision. The
bound is 1, and float32 must reach it: noise is a function of the seed and the place, so only a neighbour's influence on
a row's rounding can turn an id. A run that was cut goes on from keys and values that are read at once, where they had
been written one by one. The other precisions are printed as they are.
"""

import random

import torch

from bench.ours import MAX_ROWS, Ours, admit, cancel, usual
from bench.shapes import prompts
from generate import Request, Sampling, parse_sampling, unknown_records

NEW, TOGETHER = 64, 25  # tokens a run; runs in a batch, the other rows are strangers


class Sameness(Ours):
    """One precision of the engine."""

    @torch.inference_mode()
    def share(self, count: int) -> dict[str, float]:
        """The shares of equal ids, and of equal runs, of `count` random runs."""
        dice, given, wishes = random.Random(1), prompts(count, 8, "same"), []
        for _ in given:
            filters = {"top_k": dice.choice([0, 0, 40, 200]), "top_p": dice.choice([1, 0.9]), "temperature": 1}
            wishes.append(parse_sampling(filters | {"seed": dice.randrange(2**32), "max_new_tokens": NEW}))
        alone = [self.write([ids], [wish])[0] for ids, wish in zip(given, wishes, strict=True)]
        crowd = []
        for start in range(0, count, TOGETHER):
            crowd += self.write(given[start : start + TOGETHER], wishes[start : start + TOGETHER], strangers=True)
        resumed = [self.go_on(*case, dice.randint(1, NEW - 1)) for case in zip(given, wishes, alone, strict=True)]
        return shares("", alone, crowd) | shares("resumed_", alone, resumed)

    def go_on(self, prompt: list[int], wish: Sampling, written: list[int], cut: int) -> list[int]:
        """The ids of a run of which `cut` tokens are kept."""
        request = Request(self.folder, wish)
        run = request.new_log(prompt)
        run.samples[0].append(unknown_records(written[:cut], self.folder.config.vocab_size), cut)
        self.batch.admit(request, run)
        while not run.done:
            self.batch.step()
        return run.samples[0].read()["id"].tolist()

    def write(self, given: list[list[int]], wishes: list[Sampling], strangers: bool = False) -> list[list[int]]:
        """The ids of each run; with `strangers`, rows of odd lengths fill the batch and are followed by others."""
        runs = admit(self.batch, self.folder, given, wishes)
        others, number = [], 0
        while not all(run.done for run in runs):
            others = [run for run in others if not run.done]
            while strangers and len(runs) + len(others) < MAX_ROWS:
                number += 1
                stranger = prompts(1, 3 + 7 * number % 50, f"stranger {number}")
                others += admit(self.batch, self.folder, stranger, usual(1, 5 + number % 40))
            self.batch.step()
        cancel(self.batch, others)
        return [run.samples[0].read()["id"].tolist() for run in runs]


def shares(name: str, first: list[list[int]], second: list[list[int]]) -> dict[str, float]:
    equal = [[a == b for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]
    return {
        f"{name}equal_ids": sum(map(sum, equal)) / sum(map(len, equal)),
        f"{name}equal_runs": sum(map(all, equal)) / len(equal),
    }
