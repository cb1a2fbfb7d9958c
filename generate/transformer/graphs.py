"""A GPU's steps as CUDA graphs: one launch instead of some hundred, which is most of a small model's time there.

A graph repeats what was launched once, on the same memory. So the shapes are few (each bucket's rows filled up to a
power of two), and whatever changes from step to step is copied into tensors that stay where they are.

Measured on no GPU yet. What can be tried without one is tried: the shapes, that nothing moves, and that no operation
waits for an answer (tests/test_graphs.py).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from generate.transformer.kv_cache import KVCache
from generate.transformer.model import GPT2

MOST_GRAPHS = 64  # each holds the memory of its results; the least recently used goes

Key = tuple[tuple[int, int], ...]  # room and rows of each bucket
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


@dataclass
class Captured:
    """One recorded step: the tensors it reads, the one it writes, and how to repeat it."""

    ids: Tensor
    positions: Tensor
    masks: list[Tensor]
    places: list[Tensor]
    hidden: Tensor
    replay: Callable[[], None]


class Graphs:
    """Hidden states of the running rows, by a graph for each combination of buckets and rows that occurs."""

    def __init__(self, model: GPT2, cache: KVCache, record: Record | None = None):
        self.model, self.cache = model, cache
        self._record = record or record_on_gpu
        self._graphs: OrderedDict[Key, Captured] = OrderedDict()

    def hidden(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Hidden states [B, n_embd] of the rows' last tokens `ids` [B] at `positions` [B], in the cache's order."""
        self.cache.begin_step(fill_up=True)
        parts = self.cache.parts
        real = [place for bucket, start, _ in parts for place in range(start, start + len(bucket.slots))]
        where = torch.tensor(real, device=ids.device)
        key = tuple((bucket.room, end - start) for bucket, start, end in parts)
        if key not in self._graphs:
            self._capture(key)
        self._graphs.move_to_end(key)
        step = self._graphs[key]
        step.ids.index_copy_(0, where, ids)
        step.positions.index_copy_(0, where, positions)
        for (bucket, _, _), mask, places in zip(parts, step.masks, step.places, strict=True):
            mask.copy_(bucket.mask)
            places.copy_(bucket.places)
        step.replay()
        return step.hidden[where]

    def _capture(self, key: Key) -> None:
        """Record the step that the cache has begun, with tensors of its own for all that changes."""
        rows = sum(count for _, count in key)
        ids = torch.zeros(rows, dtype=torch.int64, device=self.model.device)
        positions = torch.zeros_like(ids)
        for bucket, _, _ in self.cache.parts:  # the recorded step must read tensors that nobody else replaces
            bucket.mask, bucket.places = bucket.mask.clone(), bucket.places.clone()
        masks = [bucket.mask for bucket, _, _ in self.cache.parts]
        places = [bucket.places for bucket, _, _ in self.cache.parts]
        hidden, replay = self._record(lambda: self.model.hidden([(self.cache, ids, positions)]))
        self._graphs[key] = Captured(ids, positions, masks, places, hidden, replay)
        if len(self._graphs) > MOST_GRAPHS:
            self._graphs.popitem(last=False)


def record_on_gpu(step: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Run a step once beside the main stream, as capturing asks for, then record it.

    Source: the PyTorch documentation, "CUDA semantics", section "CUDA Graphs".
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another model may be loading meanwhile
        hidden = step()
    return hidden, graph.replay
