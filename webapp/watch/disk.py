"""Whether there is room for what is written: said to everybody before there is none, and while there is none."""

import shutil
import time
from pathlib import Path

from generate import N_, gettext

LOW = 256 * 2**20  # bytes; an upload leaves as many free
STAYS = 15.0  # seconds that a disk counts as full after it refused something; what waits is tried again all the time

NEARLY = N_("This server’s disk is nearly full: what is written from now on may not be kept.")
FULL = N_("This server’s disk is full: what is written now is not kept until there is room again. What was kept stays.")


class Disk:
    """That of `folder`, in which the database is, or at least what else is kept; as it was at the last `look`."""

    def __init__(self, folder: Path):
        self._folder, self._refused = folder, float("-inf")
        self.total = self.free = 0
        self.look()

    def look(self) -> None:
        """See how much room there is."""
        usage = shutil.disk_usage(self._folder)
        self.total, self.free = usage.total, usage.free

    @property
    def is_full(self) -> bool:
        """Whether the database found no room a moment ago, wherever it is."""
        return time.monotonic() - self._refused < STAYS

    @property
    def notice(self) -> str:
        """What is said at the bar; "" while there is room."""
        if self.is_full:
            return gettext(FULL)
        return gettext(NEARLY) if self.free < LOW else ""

    def refuses(self) -> None:
        """The database has just found no room."""
        self._refused = time.monotonic()
