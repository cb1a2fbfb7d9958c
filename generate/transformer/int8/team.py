"""Threads that do a piece of compiled work together."""

import threading
import weakref
from collections.abc import Callable

import numpy as np

from generate.compiled.meeting import new_gate


class Team:
    """`size` threads, of which the caller's is one; the others sleep between two pieces of work."""

    def __init__(self, size: int):
        self.size, self.gate = size, new_gate()
        self._members = [Member(number, size, self.gate) for number in range(1, size)]
        weakref.finalize(self, dismiss, self._members)

    def do(self, work: Callable, *arguments) -> None:
        """Call `work(*arguments, part, size, gate)` in all threads, each with its own `part` from 0; wait for all.

        It must not raise in one of them and not in the others: these would wait for it.
        """
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
