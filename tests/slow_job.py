"""A program that a job may be: it counts in a file, saves and ends when it is told to, and fails as its arguments say."""

import signal
import sys
import time
from pathlib import Path

from generate import Journal, Refusal, in_place_of, tie


def main(arguments: list[str]) -> int:
    (journal,) = (Journal(Path(a.partition("=")[2])) for a in arguments if a.startswith("--journal="))
    tie()
    journal.tell("began")
    given, out = arguments[0], Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else None
    if arguments[0] == "look":
        journal.tell("found", words=arguments[1])
        return 0
    try:
        if given == "refuse":
            raise Refusal("It will not do.")
        if given == "half":
            raise Refusal("It will not do: a\udcffb\0")
        if given == "die":
            signal.raise_signal(signal.SIGKILL)
        if given == "silent":
            return 3
        if given == "crash":
            raise ZeroDivisionError("by nothing")
        count(int(given), Path("saved"), journal)
        with in_place_of(out) as part:
            (part / "model").write_text(given)
        journal.tell("done")
    except Refusal as refusal:
        journal.tell("refused", sentence=str(refusal))
        return 1
    except KeyboardInterrupt:
        journal.tell("stopped")
        return 130
    return 0


def count(steps: int, saved: Path, journal: Journal) -> None:
    """A step is a hundredth of a second; the last one is kept when it is stopped, as a training does."""
    step = int(saved.read_text()) if saved.exists() else 0
    journal.tell("stage", name="training", step=step, steps=steps)
    try:
        while step < steps:
            time.sleep(0.01)
            step += 1
            journal.tell_at_times("step", step=step, steps=steps)
    finally:
        saved.write_text(str(step))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
