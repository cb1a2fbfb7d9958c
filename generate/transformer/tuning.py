"""What is found by measuring when a model is loaded: how fast each precision is here, and how many threads pay."""

import logging
import time
from dataclasses import replace

import torch

from generate.folders.config import Config
from generate.folders.tensors import tensor_shapes
from generate.transformer.cpu import cores, has_bfloat16
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.model import GPT2, PRECISIONS, new_model

log = logging.getLogger(__name__)

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
    """The precisions by the time that 8 rows take through one layer of the model's width on this CPU, bfloat16 only where
    it has units for it."""
    one = replace(config, n_layer=1, vocab_size=1024, n_positions=8)
    times = {}
    for precision, dtype in PRECISIONS.items():
        if precision == "bfloat16" and not has_bfloat16():
            continue
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


def choose_torch_threads(model: GPT2 | Int8GPT2) -> None:
    """How many threads torch uses, in the thread that calls this: those of a model that computes with it; else one."""
    torch.set_num_threads(1)
    if model.precision != "int8":
        choose_threads(model)


def choose_threads(model: GPT2 | Int8GPT2) -> None:
    """Try a step of 4 tokens on more and more threads, and keep what pays."""
    limit, best, time_of_best, count = thread_limit(), 1, float("inf"), 1
    cache = model.new_cache(1, 0)
    ids, places = torch.zeros(4, dtype=torch.int64), torch.arange(4)

    def step() -> None:
        model.logits(model.hidden([(cache.new_prefix(4), ids, places)]))

    while count <= limit:
        model.use_threads(count)
        taken = seconds(step)
        if taken <= WORTH * time_of_best:
            best, time_of_best = count, taken
        count = limit if count < limit < 2 * count else 2 * count
    model.use_threads(best)
    log.info("%d of the processor's threads write fastest", best)
