"""What is found by measuring when a model is loaded: how fast each precision is here, and how many threads pay."""

import time

import torch

from generate.cpu import cores
from generate.folder import Config
from generate.linear import int8_is_exact, pack
from generate.model import GPT2, PRECISIONS

FEW_CORES = 8  # up to here one is left for the web
WORTH = 0.95  # more threads must bring the time down to this share


def seconds(work, repeats: int = 5) -> float:
    """The shortest of a few times that `work` takes, after once for practice."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def fastest_first(config: Config) -> list[str]:
    """The precisions by the time of one of the model's larger products over 8 rows on this CPU."""
    times = {}
    for precision, dtype in PRECISIONS.items():
        if precision == "int8" and not int8_is_exact():
            continue
        linear = pack(torch.ones(config.n_embd, config.n_inner, dtype=dtype), None, precision)
        x = torch.ones(8, config.n_embd, dtype=dtype)
        times[precision] = seconds(lambda linear=linear, x=x: linear(x))
    return sorted(times, key=times.get)


def choose_threads(model: GPT2) -> int:
    """Try the decode step of 4 rows, without its attention, on more and more threads, and keep what pays."""
    limit = cores() - (1 < cores() <= FEW_CORES)
    ids = torch.zeros(4, dtype=torch.int64)

    def step() -> None:
        model.logits(model.hidden(ids, ids, lambda layer, qkv: qkv[:, 0].reshape(len(qkv), -1)))

    best, time_of_best = 1, float("inf")
    count = 1
    while count <= limit:
        torch.set_num_threads(count)
        taken = seconds(step)
        if taken <= WORTH * time_of_best:
            best, time_of_best = count, taken
        count = limit if count < limit < 2 * count else 2 * count
    torch.set_num_threads(best)
    return best
