"""What is done to the bytes of an upload, beside other processes that may be at the same file."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from webapp.uploads.refusals import Misplaced

try:
    import fcntl
except ImportError:  # not on Windows: there one process alone may take uploads in
    fcntl = None


def write_on(out: IO[bytes], offset: int, block: bytes) -> None:
    """Write a block to a file that is open for appending, unbuffered, and has `offset` bytes; the next to write waits.

    Raises Misplaced where it has another number, because another process went on with it, and OSError as on a full disk.
    """
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks: what follows is nearly as good
            fcntl.flock(out, fcntl.LOCK_EX)
    try:
        if os.fstat(out.fileno()).st_size != offset:
            raise Misplaced("Another piece of this file is being sent.")
        written = 0
        while written < len(block):
            written += out.write(block[written:])
    finally:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(out, fcntl.LOCK_UN)


def link_or_move(source: Path, target: Path) -> None:
    """Let a file be at `target` too; where it cannot be in two places, as on two disks, there alone."""
    try:
        os.link(source, target)
    except OSError:
        shutil.move(source, target)
