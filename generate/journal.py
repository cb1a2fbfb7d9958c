"""What a long work tells of itself to programs: events as JSON lines at the end of a file, for whoever reads along."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

PAUSE = 1.0  # seconds between two events that only say how far it is


class Journal:
    """The events of one work; without a `file` nobody is told.

    Each line is an object with the name of the event, `event`, and the moment, `at`, in seconds since 1970. What a full disk
    does not take is lost, as the work that it tells of will say by itself; the lines after it are whole again.
    """

    def __init__(self, file: Path | None = None):
        self._file, self._broken, self._last = file, False, -math.inf

    def tell(self, event: str, **values: object) -> None:
        """Append an event. Numbers that are not finite are left out, as JSON has none."""
        if self._file is None:
            return
        told = {"event": event, "at": round(time.time(), 2)} | {name: v for name, v in values.items() if is_told(v)}
        line = ("\n" if self._broken else "") + json.dumps(told, ensure_ascii=False) + "\n"
        body = line.encode("utf-8", "backslashreplace")
        self._broken = True
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                self._broken = os.write(descriptor, body) < len(body)
            finally:
                os.close(descriptor)
        except OSError:
            return  # `_broken` remembers it

    def tell_at_times(self, event: str, **values: object) -> None:
        """The same, but only where the last event of this kind is a while ago."""
        now = time.monotonic()
        if now - self._last >= PAUSE:
            self._last = now
            self.tell(event, **values)

    def counter(self, total: int, unit: str, also: Callable[[int], object]) -> Callable[[int], None]:
        """Takes what was done, piece by piece, tells how much of `total` that is, and hands each piece to `also`."""
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            also(size)
            self.tell_at_times("progress", done=done, total=total, unit=unit)

        return count


def is_told(value: object) -> bool:
    """Whether JSON has it."""
    return not isinstance(value, float) or math.isfinite(value)
