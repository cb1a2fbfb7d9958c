"""Whether a server is writing, as it says itself, for clients that leave in mid-text."""

import time
import urllib.request

LONG = 4096  # tokens of the slow model, which nobody would wait for


def until_writing(address: str, wanted: bool, seconds: float = 20) -> None:
    """Wait until a server is writing, or until it is not; a text of LONG tokens takes longer than this waits."""
    deadline = time.monotonic() + seconds
    while ("Nobody is writing" not in urllib.request.urlopen(f"{address}/busy").read().decode()) is not wanted:
        assert time.monotonic() < deadline, f"after {seconds} s the server is {'not ' if wanted else 'still '}writing"
        time.sleep(0.02)
