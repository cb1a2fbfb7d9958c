"""How long from nothing in memory to a first token, how much memory that takes, and how fast one row is then written.

Every contender begins in a new process, its libraries imported, with its file out of the system's cache, so that it has to
be read; the time ends with the first token after a prompt of 32. The bound is the reading of the file alone, by the
same measure. What is read is each contender's own: CTranslate2's int8 file has a quarter of the bytes.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.contest import Entry, entries
from bench.measure import Child, Failed, interleave, median, spread, told
from bench.shapes import prompts

NAMES = ("ours int8", "ours bfloat16", "HF bfloat16", "CTranslate2 int8", "llama.cpp q8_0")
PROMPT, PIECE = 32, 2**20


def load(path: Path, rounds: int, threads: int, new: int) -> Iterator[dict]:
    """A row for each contender that can load the model in `path`."""
    some = [entry for entry in entries(threads) if entry.name in NAMES]
    places = {}
    for entry in some:
        with told(entry.name):
            places[entry.name] = entry.prepared(path)
    turns = {"reading": lambda _: {"first_s": read(path)}}
    turns |= {e.name: lambda _, e=e: begin(e, places[e.name], new) for e in some if e.name in places}
    results = interleave(rounds, turns, warm_up=False)
    read_s = median(turn["first_s"] for turn in results.pop("reading"))
    for name, found in results.items():
        row = {"model": path.name, "contender": name, "rounds": len(found), "read_s": read_s}
        row |= {key: median(turn[key] for turn in found) for key in found[0]}
        row |= {f"{key}_spread": spread(turn[key] for turn in found) for key in ("first_s", "tokens_per_s")}
        yield row | {"ratio": read_s / row["first_s"]}


def begin(entry: Entry, path: Path, new: int) -> dict:
    """Seconds to the first token, MB at the most until then, and tokens/s of one row after that."""
    child = Child(entry.make)
    try:
        forget(path)
        begun = time.perf_counter()
        child.call("load", path)
        peak = child.peak
        child.call("turn", prompts(1, PROMPT, "first"), 1)
        first = time.perf_counter() - begun
        found = {"first_s": first} | ({"memory_mb": max(peak, child.peak) / 1e6} if entry.inside else {})
        timing = child.call("turn", prompts(1, PROMPT, "then"), new)
        return found | {"tokens_per_s": 1 / timing.step} | ({"then_mb": child.peak / 1e6} if entry.inside else {})
    finally:
        child.close()


def read(path: Path) -> float:
    """Seconds in which the weights are read from where they are stored."""
    forget(path)
    begun = time.perf_counter()
    for file in path.glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(PIECE):
                pass
    return time.perf_counter() - begun


def forget(path: Path) -> None:
    """Let the system keep nothing of a folder's files in memory; raises Failed where it cannot be asked to."""
    if not hasattr(os, "posix_fadvise"):
        raise Failed("this system cannot be asked to forget a file")
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
