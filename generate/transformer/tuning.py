"""What is found by measuring when a model is loaded: how fast each precision is here, and how many threads pay."""

import time
from dataclasses import replace

import torch

from generate.folders.config import Config
from generate.folders.tensors import tensor_shapes
from generate.transformer.cpu import cores
from generate.transformer.model import GPT2, PRECISIONS, new_model

FEW_CORES = 8  # up to here one is left for the web
WORTH = 0.95  # more threads must bring the time down to this share


def seconds(work, repeats: int = 5) -> float:
    """The shortest of a few times that `work` takes, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def fastest_first(config: Config) -> list[str]:
    """The precisions by the time that 8 rows take through one layer of the model's width on this CPU."""
    one = replace(config, n_layer=1, vocab_size=1024, n_positions=8)
    times = {}
    for precision, dtype in PRECISIONS.items():
        tensors = {name: torch.full(shape, 0.01, dtype=dtype) for name, shape in tensor_shapes(one).items()}
        model = new_model(one, tensors, precision)
        cache = model.new_cache(1, 0)
        ids, places = torch.zeros(8, dtype=torch.int64), torch.arange(8)

        def step(model=model, cache=cache, ids=ids, places=places) -> None:
            model.logits(model.hidden([(cache.new_prefix(8), ids, places)]))

        times[precision] = seconds(step)
    return sorted(times, key=times.get)


def thread_limit() -> int:
    """The most threads that the engine may use."""
    return cores() - (1 < cores() <= FEW_CORES)


def choose_threads(model: GPT2) -> int:
    """Try a step of 4 tokens on more and more threads, and keep what pays; int8 runs on one."""
    if model.precision == "int8":
        torch.set_num_threads(1)
        return 1
    limit = thread_limit()
    cache = model.new_cache(1, 0)
    ids, places = torch.zeros(4, dtype=torch.int64), torch.arange(4)

    def step() -> None:
        model.logits(model.hidden([(cache.new_prefix(4), ids, places)]))

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
