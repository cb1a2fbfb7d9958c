"""How everything here is measured: contenders in processes of their own, taking turns in rounds, and medians.

A contender lives in a child process, so that its OpenMP, its allocator and its memory are its own, and sleeps while the
others work. Its memory is the peak of its resident set during one call (VmHWM, set back before each), above what it had
when its libraries were imported; so mapped weights count and libraries do not, but for pages they touch later.
"""

import ctypes
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import generate  # (first: it tells OpenMP to wait passively, and the children inherit the environment)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "transformers"])  # imported once for all children; no thread is started


@dataclass
class Timing:
    """Seconds of one turn: to the first token, as a mean of the rows, for all tokens of all rows, and of one decode step."""

    first: float
    whole: float
    step: float


class Failed(Exception):
    """A contender cannot take part, or broke down; the sentence says why."""


def require_units(precision: str) -> None:
    """Raise Failed where the CPU has no units for a precision: in their place a step takes up to fifty times as long."""
    if precision == "bfloat16" and not generate.has_bfloat16():
        raise Failed("this CPU has no units for bfloat16")


class Child:
    """The object `make(*arguments)` in a process of its own; `call` runs one of its methods there and waits."""

    def __init__(self, make: Callable, *arguments):
        self.pipe, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=obey, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.peak = 0
        self._answer()

    def call(self, method: str, *arguments):
        """The method's result; `peak` then holds the bytes that it took at most. Raises Failed where it raised."""
        with suppress(OSError):  # a process that is gone has no answer either
            self.pipe.send((method, arguments))
        return self._answer()

    def _answer(self):
        try:
            problem, result, self.peak = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Failed(f"its process ended with code {self.process.exitcode}") from None
        if problem:
            raise Failed(problem)
        return result

    def close(self) -> None:
        with suppress(OSError):
            self.pipe.send(None)
        self.process.join()


def obey(pipe, make: Callable, arguments: tuple) -> None:
    """The child's side: build the object, then do what the pipe asks until it asks for nothing more."""
    made, problem = attempt(make, arguments)
    before = resident("VmRSS")
    pipe.send((problem, None, 0))
    with suppress(EOFError):  # the parent may be gone
        while made is not None and (order := pipe.recv()) is not None:
            method, given = order
            forget_peak()
            result, problem = attempt(getattr(made, method), given)
            pipe.send((problem, result, resident("VmHWM") - before))
    if hasattr(made, "close"):
        made.close()


def attempt(work: Callable, arguments: tuple) -> tuple:
    """(result, None), or (None, what went wrong) in one line."""
    try:
        return work(*arguments), None
    except Failed as failure:
        return None, str(failure)
    except Exception as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:200]


def aside(work: Callable, *arguments) -> None:
    """Do `work` in a process that ends with it, and takes along the memory that it filled."""
    Child(work, *arguments).close()


@contextmanager
def told(name: str):
    """Who fails in here is told in one line, and takes no further part."""
    try:
        yield
    except Failed as failure:
        print(f"  {name}: {failure}", flush=True)


def interleave(rounds: int, turns: dict[str, Callable[[int], Any]], warm_up: bool = True) -> dict[str, list]:
    """Call every turn once a round, A B C A B C; round 0 warms up and does not count. Who fails is left out."""
    results: dict[str, list] = {name: [] for name in turns}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name in list(results):
            done = None
            with told(name):
                done = turns[name](number)
            if done is None:
                del results[name]
            elif number:
                results[name].append(done)
    return results


def median(values) -> float:
    return statistics.median(values)


def spread(values) -> float:
    """How far rounds lie from their median at the most, as a share of it."""
    values = list(values)
    middle = median(values)
    return max(abs(value - middle) for value in values) / middle if middle else 0.0


def percentile(values: list[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


class Neighbours:
    """How many cores others kept busy while contenders of so many threads took turns: `with` it around the turns.

    Whoever takes turns with several threads may leave some of them idle, so that it is as many at the least.
    """

    def __init__(self, threads: int = 1):
        self.threads, self.busy, self.wall = threads, 0.0, 0.0

    def __enter__(self) -> None:
        self.busy, self.wall = self.busy - busy_seconds(), self.wall - time.monotonic()

    def __exit__(self, *_) -> None:
        self.busy, self.wall = self.busy + busy_seconds(), self.wall + time.monotonic()

    @property
    def cores(self) -> float:
        return max(0.0, self.busy / self.wall - self.threads) if self.wall and self.busy else 0.0


def busy_seconds() -> float:
    """What all cores together have worked since the machine was started; 0 where Linux does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, stat.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + sum(interrupts[:2])) / os.sysconf("SC_CLK_TCK")


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def forget_peak() -> None:
    """Give freed memory back and set the peak to what is resident now, where Linux lets us."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def machine() -> dict:
    """What every table says of where and when it was measured."""
    import torch

    info = Path("/proc/cpuinfo")
    names = [line for line in (info.read_text().splitlines() if info.exists() else []) if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }
