"""What the machine allows, measured in the same run on one thread: the bounds that a decode step is held against.

- The matrix products alone: those of one step, each layer its own weights, by `torch.ops.quantized.linear_dynamic`:
  int8 weights and nothing between them: no norms, no attention, no sampling. Its scale spans the batch, which we could
  not serve; as a floor it is fair. The share of the floor is its time over ours.
- The weights read once: a step at batch 1 must read each of them, so it takes as long as summing so many bytes. The
  sweeps follow one another, so weights that fit into the cache are read from there, as they are in a real step.
"""

import time
import warnings
from pathlib import Path

import torch

from bench.measure import Timing, median
from generate import read_config

SWEEPS = 5
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


class Floor:
    """The matrix products of one decode step, as a contender that writes nothing."""

    def __init__(self):
        torch.set_num_threads(1)
        torch.manual_seed(0)
        warnings.filterwarnings("ignore")  # torch means to remove the quantized tensors that this is made of

    @torch.inference_mode()
    def load(self, path: Path) -> None:
        self.products = [packed(inside, outside) for inside, outside in products(path)]

    @torch.inference_mode()
    def turn(self, prompts: list[list[int]], new: int) -> Timing:
        inputs = {weight[0]: torch.randn(len(prompts), weight[0]) for weight in self.products}
        times = []
        for _ in range(new):
            begun = time.perf_counter()
            for inside, weight in self.products:
                torch.ops.quantized.linear_dynamic(inputs[inside], weight)
            times.append(time.perf_counter() - begun)
        return Timing(0, 0, median(times))

    @torch.inference_mode()
    def read_once(self, path: Path) -> dict[str, float]:
        """Seconds in which one thread reads all weights of the products, per precision."""
        numbers = sum(inside * outside for inside, outside in products(path))
        return {name: sweep(numbers * size) for name, size in BYTES.items()}


def products(path: Path) -> list[tuple[int, int]]:
    """(in, out) of every matrix product of a step: four a layer, and the head."""
    c = read_config(path)[0]
    e = c.n_embd
    return [(e, 3 * e), (e, e), (e, c.n_inner), (c.n_inner, e)] * c.n_layer + [(e, c.vocab_size)]


def packed(inside: int, outside: int) -> tuple:
    weight = torch.randn(outside, inside) * 0.02
    scales, zeros = weight.abs().amax(1) / 127, torch.zeros(outside, dtype=torch.int64)
    quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    return inside, torch.ops.quantized.linear_prepack(quantized, torch.zeros(outside))


def sweep(size: int) -> float:
    """Seconds of reading `size` bytes once, the median of some sweeps."""
    block, times = torch.ones(size // 4), []
    for _ in range(SWEEPS + 1):  # the first one warms up
        begun = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - begun)
    return median(times[1:])
