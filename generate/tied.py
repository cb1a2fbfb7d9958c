"""A process tied to the one that started it: when that ends, however it does, this one is stopped as by Ctrl-C."""

import os
import signal
import threading
import time
from types import FrameType

STDIN, INTERRUPTED = 0, 130
PATIENCE = 600.0  # seconds in which it must have saved what it has


def tie() -> None:
    """Watch standard input, a pipe that the starting process holds: its end, and SIGTERM, are a Ctrl-C from now on.

    Both are told as SIGTERM, as there may be two of them, and a second SIGINT would not wait for what is being saved.
    """
    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=wait_for_end, name="tied", daemon=True).start()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C, whichever signal it was."""
    raise KeyboardInterrupt


def wait_for_end() -> None:
    """Stop this process once nobody holds the other end of the pipe; at the latest after PATIENCE it is gone."""
    while os.read(STDIN, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(INTERRUPTED)
