"""The one way in which tests wait: for a condition, with a deadline, and never for "long enough"."""

import time


def until(condition, seconds=60, what="what was waited for"):
    """Wait until `condition()` is true, and return what it gave. `what` says what did not happen; it may be a function."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what() if callable(what) else what} did not happen in {seconds} s"
        time.sleep(0.01)
    return found


def until_up(process, is_up, log, seconds=60) -> None:
    """Wait until a server that was started as `process` answers; what it wrote into `log` is told when it does not."""
    told = lambda: f"{log.read_text()}\nWhat should follow this"  # noqa: E731
    until(lambda: is_up() or process.poll() is not None, seconds, told)
    assert process.poll() is None, f"it did not start:\n{log.read_text()}"
