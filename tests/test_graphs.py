"""The GPU's steps: on a CPU as far as that can try them (shapes, tensors that stay where they are, nothing that waits)."""

import pytest
import torch
from conftest import DEVICE, Writer, started
from torch.utils._python_dispatch import TorchDispatchMode

from generate import LocalEngine
from generate.transformer.graphs import Graphs

WAITING = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class Operations(TorchDispatchMode):
    """Notes the name and the shapes of every operation."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        shapes = [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]
        self.seen.append((str(operation), shapes))
        return operation(*args, **(kwargs or {}))


class Recorder:
    """Stands in for CUDA's graphs: repeats a step on the very tensors it was recorded with, and compares its operations."""

    def __init__(self):
        self.replays, self.recorded = 0, 0

    def __call__(self, step):
        self.recorded += 1
        with Operations() as first:
            hidden = step()

        def replay():
            self.replays += 1
            with Operations() as again:
                hidden.copy_(step())
            assert again.seen[: len(first.seen)] == first.seen
            assert not [name for name, _ in again.seen if name.split(".")[1] in WAITING]

        return hidden, replay


@pytest.fixture(scope="module")
def graphed(models):
    engine = started(LocalEngine(models, device=DEVICE, precision="float32", max_rows=6).start("tiny"))
    writer = Writer(engine)
    batch, recorder = writer.batch(), Recorder()
    if DEVICE == "cpu":
        batch.graphs, batch.look_ahead = Graphs(batch.model, batch.cache, recorder), True
    yield writer, recorder
    engine.close()


def test_steps_by_graphs_write_the_same_tokens(plain, graphed):
    ours, recorder = graphed
    wishes = [{"text": "the old king " * n, "seed": n, "max_new_tokens": 7 * n, "samples": n} for n in (1, 2, 3, 5)]
    for wish in wishes:
        assert ours.ids(**wish) == plain.ids(**wish)
    if DEVICE == "cpu":
        assert recorder.replays > 20
        assert recorder.recorded < recorder.replays / 2


def test_the_rows_of_a_graph_are_filled_up_to_powers_of_two(graphed):
    ours, _ = graphed
    for samples in (1, 2, 3, 5):
        ours.write(samples=samples)
    sizes = {rows for key in ours.batch().graphs._graphs for _, rows in key}
    assert sizes
    assert sizes <= {1, 2, 4, 6}
