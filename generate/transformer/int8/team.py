"""Threads that do a piece of compiled work together, as long as that is faster than one of them alone.

Where others keep the processor busy it is not: whoever of them has to wait for a core lets all wait, a hundred times in a pass.
So both ways are timed, and the slower one is tried again now and then.
"""

import threading
import time
import weakref
from collections.abc import Callable

import numpy as np

from generate.compiled.meeting import new_gate

AGAIN = 64  # pieces of work after which the slower way is tried once
SLOWLY = 0.2  # the share that a longer time has in what is taken for usual; a shorter one counts at once


class Ways:
    """How long a kind of work takes of late, in seconds: alone, and together."""

    def __init__(self):
        self._seconds: list[float | None] = [None, None]
        self._done = 0

    def together(self) -> bool:
        """Whether to do it together this time."""
        alone, together = self._seconds
        if alone is None or together is None:
            return together is None
        self._done += 1
        return (together < alone) != (self._done % AGAIN == 0)

    def took(self, together: bool, seconds: float) -> None:
        """It was done in so many seconds."""
        before = self._seconds[together]
        if before is not None and seconds > before:
            seconds = before + SLOWLY * (seconds - before)
        self._seconds[together] = seconds


class Team:
    """`size` threads, of which the caller's is one; the others sleep between two pieces of work."""

    def __init__(self, size: int):
        self.size, self.gate = size, new_gate()
        self._ways: dict[tuple, Ways] = {}
        self._members = [Member(number, size, self.gate) for number in range(1, size)]
        weakref.finalize(self, dismiss, self._members)

    def do(self, work: Callable, size: int, *arguments) -> None:
        """Call `work(*arguments, part, parts, gate)` in all threads, each with its own `part` from 0 and `parts` their number,
        and wait for all; or in this one alone as the one part. `size` tells how much work it is, by which it is timed.

        It must not raise in one of them and not in the others: these would wait for it.
        """
        if self.size == 1:
            work(*arguments, 0, 1, self.gate)
            return
        ways = self._ways.setdefault((work, size.bit_length()), Ways())
        together, begun = ways.together(), time.perf_counter()
        if together:
            self._do_together(work, arguments)
        else:
            work(*arguments, 0, 1, self.gate)
        ways.took(together, time.perf_counter() - begun)

    def _do_together(self, work: Callable, arguments: tuple) -> None:
        for member in self._members:
            member.begin(work, arguments)
        try:
            work(*arguments, 0, self.size, self.gate)
        finally:
            for member in self._members:
                member.wait()


class Member:
    """One more thread. Locks, as they wake a thread faster than anything built upon them."""

    def __init__(self, part: int, size: int, gate: np.ndarray):
        self._part = (part, size, gate)
        self._work: tuple[Callable, tuple] | None = None
        self._asked, self._done = threading.Lock(), threading.Lock()
        self._asked.acquire()
        self._done.acquire()
        threading.Thread(target=self._serve, name=f"int8-{part}", daemon=True).start()

    def begin(self, work: Callable | None, arguments: tuple = ()) -> None:
        """Have some work begun; None: the thread ends."""
        self._work = work and (work, arguments)
        self._asked.release()

    def wait(self) -> None:
        """Wait until that work is done."""
        self._done.acquire()

    def _serve(self) -> None:
        while True:
            self._asked.acquire()
            if self._work is None:
                return
            (work, arguments), self._work = self._work, None
            try:
                work(*arguments, *self._part)
            finally:
                del work, arguments  # nothing of a model that is let go of is held here
                self._done.release()


def dismiss(members: list[Member]) -> None:
    """Let the threads of a team that is gone end."""
    for member in members:
        member.begin(None)
