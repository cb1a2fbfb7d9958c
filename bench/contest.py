"""Our engine and its peers on the same weights, prompts and sampling: who decodes, answers and reads how fast.

Each cell (a model at a batch size) is measured in rounds: every contender in turn writes NEW tokens for so many prompts
of 32 tokens, other prompts each round. A row of the table holds medians over the rounds:

    tokens/s     of all rows together while they decode: batch / step
    step ms      one decode step, prompts excluded
    first ms     from the requests to the first token, as a mean of them: whoever reads one text after the other has one early
    whole        tokens/s of whole requests, prompts included
    memory       the most that the contender took, MB, see measure.py

The bounds are in floor.py. Prefill is the time to the first token of one prompt of 512 tokens.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import llama, peers
from bench.floor import Floor
from bench.measure import Child, Neighbours, Timing, aside, interleave, median, spread, told
from bench.ours import PRECISIONS, Ours
from bench.shapes import make, prompts

PROMPT, PREFILL = 32, 512
WARM_UP = 3  # tokens of the round that does not count: enough for every shape to be met once
BASELINE, FLOOR, BARE = "HF float32", "matrix products alone, int8", "ours int8, no statistics"


@dataclass(frozen=True)
class Entry:
    """A contender. `prepare`, where it reads another format, writes that from a model's folder into another.

    `inside` says whether its work is done in the child process, whose memory is measured.
    """

    name: str
    make: Callable
    prepare: Callable | None = None
    inside: bool = True

    def prepared(self, path: Path) -> Path:
        """The folder or file that it reads, written beside the model's folder unless it is there; raises Failed."""
        if self.prepare is None:
            return path
        target = path.parent / f"{path.name} for {self.name}"
        if not target.exists():
            aside(self.prepare, path, target)
        return target


def entries(threads: int) -> list[Entry]:
    """All that may take part, each with so many threads; the floor is that of one."""
    found = [Entry(f"ours {name}", partial(Ours, name, threads)) for name in PRECISIONS]
    found += [Entry(f"HF {name}", partial(peers.HuggingFace, name, threads)) for name in ("float32", "bfloat16")]
    for name in ("int8", "bfloat16"):
        prepare = partial(peers.convert, precision=name)
        found.append(Entry(f"CTranslate2 {name}", partial(peers.CTranslate2, name, threads), prepare))
    llama_cpp = Entry("llama.cpp q8_0", partial(llama.Llama, threads), llama.convert, inside=False)
    return [*found, llama_cpp, Entry(FLOOR, Floor)]


class Contest:
    """The children of all contenders, for one model after another."""

    def __init__(self, work: Path, threads: int = 1):
        self.work, self.children, self.neighbours = work, {}, Neighbours(threads)
        for entry in entries(threads):
            with told(entry.name):
                self.children[entry.name] = (entry, Child(entry.make))

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *_) -> None:
        for _, child in self.children.values():
            child.close()

    def load(self, name: str) -> None:
        """Write the model, convert it for those who need that, and let everybody load it."""
        self.path = self.work / name
        if not self.path.exists():
            make(self.work, name)
        with ThreadPoolExecutor(2) as pool:  # two at a time: this is not measured
            loaded = list(pool.map(self._load, self.children.values()))
        self.loaded = {
            entry.name: child for (entry, child), well in zip(self.children.values(), loaded, strict=True) if well
        }

    def _load(self, contender: tuple[Entry, Child]) -> bool:
        entry, child = contender
        with told(entry.name):
            child.call("load", entry.prepared(self.path))
            return True
        return False

    def cell(self, batch: int, rounds: int, new: int) -> list[dict]:
        """The rows of one cell, of those who did not fail."""
        results = self.turns(batch, rounds, PROMPT, new)
        base = results.get(BASELINE)
        return [self.row(name, batch, new, timings, base) for name, timings in results.items()]

    def row(self, name: str, batch: int, new: int, timings: list, base: list | None) -> dict:
        step = median(timing.step for timing, _ in timings)
        row = {"model": self.path.name, "batch": batch, "contender": name, "rounds": len(timings)}
        row |= {"tokens_per_s": batch / step, "step_ms": step * 1000}
        row["tokens_per_s_spread"] = spread(timing.step for timing, _ in timings)
        if base:
            row["ratio"] = median(timing.step for timing, _ in base) / step
        if name != FLOOR:
            row["first_ms"] = median(timing.first for timing, _ in timings) * 1000
            row["first_ms_spread"] = spread(timing.first for timing, _ in timings)
            row["whole_tokens_per_s"] = batch * new / median(timing.whole for timing, _ in timings)
            row["whole_tokens_per_s_spread"] = spread(timing.whole for timing, _ in timings)
            if name != BARE and self.children[name][0].inside:
                row["memory_mb"] = max(peak for _, peak in timings) / 1e6
        return row

    def prefill(self, rows: list[dict], rounds: int) -> None:
        """Add to each contender's row of batch 1 the milliseconds from a long prompt to its first token."""
        for name, timings in self.turns(1, rounds, PREFILL, 1).items():
            for row in rows:
                if (row["contender"], row["batch"]) == (name, 1) and name not in (FLOOR, BARE):
                    row["prefill_ms"] = median(timing.first for timing, _ in timings) * 1000

    def bounds(self) -> dict[str, float]:
        """Milliseconds in which one thread reads the weights once, per precision."""
        if FLOOR not in self.loaded:
            return {}
        return {name: s * 1000 for name, s in self.loaded[FLOOR].call("read_once", self.path).items()}

    def turns(self, batch: int, rounds: int, length: int, new: int) -> dict[str, list[tuple[Timing, int]]]:
        """Timings and peaks of memory, round by round."""

        def turn(child: Child, method: str, number: int) -> tuple[Timing, int]:
            seed = f"{self.path.name} {batch} {length} {number}"
            child.call(method, prompts(1, PROMPT, "warm " + seed), 2)  # untimed: its weights are in the cache again
            ids = prompts(batch, length, seed)
            return child.call(method, ids, new if number else min(new, WARM_UP)), child.peak

        turns = {name: partial(turn, child, "turn") for name, child in self.loaded.items()}
        if "ours int8" in self.loaded:
            turns[BARE] = partial(turn, self.loaded["ours int8"], "bare")
        with self.neighbours:
            return interleave(rounds, turns, warm_up=new > 1)  # prefill comes last, when everybody is warm
