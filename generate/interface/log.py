"""The log of one run: the engine appends, any number of readers read from an index and wait for more."""

import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from generate.errors import Problem
from generate.interface.states import RunState, Withdrawal
from generate.interface.tally import Tally
from generate.sampling.records import known
from generate.text.vocabulary import Vocabulary


class SampleLog:
    """One sample: its tokens' records, and how it ended. Guarded by the run's condition."""

    def __init__(self, dtype: np.dtype, records: bytes = b""):
        self._dtype = dtype
        self._records = bytearray(records)
        self.released = 0
        self.blocked: dict[int, tuple[int, ...]] = {}  # ids that a banned phrase kept out, by the index of their place
        self.finish_reason: str | None = None  # a FinishReason
        self.text_end: int | None = None  # bytes of visible text, known once it is finished
        self.error: Problem | None = None  # why it ended, where that is an error

    def __len__(self) -> int:
        return len(self._records) // self._dtype.itemsize

    def size(self, vocabulary: Vocabulary) -> int:
        """Bytes of all its tokens, those included that a stop string hides."""
        return len(vocabulary.bytes_of(self.read()["id"].tolist()))

    def append(self, record: np.void | np.ndarray, released: int, blocked: Sequence[int] = ()) -> None:
        """Add a record, or several. `blocked` are ids that a banned phrase kept out at the place of the first."""
        if blocked:
            self.blocked[len(self)] = tuple(blocked)
        self._records += record.tobytes()
        self.released = released

    def read(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """A copy of the records from `start` up to `end` (default: all there are)."""
        size = self._dtype.itemsize
        end = len(self) if end is None else end
        return np.frombuffer(bytes(self._records[start * size : end * size]), self._dtype)


class RunLog:
    """Everything said and known of one run while it is in memory.

    While `state` is WAITING, `place` is the place in line, from 1, and `seconds` an estimate of how long it will be
    (None: nothing is known). `changed` guards all fields; `version` counts the changes. The log alone holds the run's
    prompt: it begins with a copy of the records `prompt` [N], and only `learn` adds to them, until `prompt_known`, which
    may be after the first tokens are written. `blocked` are of a prompt that was written with banned phrases, as
    `SampleLog.blocked` is.
    """

    def __init__(self, prompt: np.ndarray, samples: int, blocked: Mapping[int, tuple[int, ...]] | None = None):
        self._prompt, self.blocked = prompt.copy(), dict(blocked or {})
        self._shown_prompt = self._prompt.view()
        self._shown_prompt.flags.writeable = False
        self.prompt_known = False
        self.changed = threading.Condition()
        self.version = 0
        self.state = RunState.WAITING
        self.place = 0
        self.seconds: float | None = None
        self.restarts = 0  # times it was taken up anew: by a restarted model, or by another server
        self.samples = [SampleLog(prompt.dtype) for _ in range(samples)]
        self.fingerprint: str | None = None  # of the weights that write it, known when they are loaded
        self.precision: str | None = None
        self.device: str | None = None
        self.withdrawn: Withdrawal | None = None  # set once its readers have to look elsewhere
        self._tally: Tally | None = None  # of its model, from the moment an engine takes it in line
        self._asked: float | None = None  # that moment (monotonic), until it has a first token; None: not to be counted

    @property
    def prompt(self) -> np.ndarray:
        """The records of the prompt [N], which cannot be written to; what is learned of its tokens appears in them."""
        return self._shown_prompt

    @property
    def prompt_ids(self) -> list[int]:
        """The ids of the prompt's tokens, from the root of the run's family on."""
        return self._prompt["id"].tolist()

    def blocked_before(self, number: int | None, count: int) -> dict[int, tuple[int, ...]]:
        """What was blocked at which places of the first `count` tokens of prompt and sample `number` (None: none)."""
        written = {} if number is None else self.samples[number].blocked
        places = self.blocked | {len(self._prompt) + place: ids for place, ids in written.items()}
        return {place: ids for place, ids in places.items() if place < count}

    @property
    def done(self) -> bool:
        """Whether nothing more will come: all samples have ended, or the log is withdrawn."""
        return self.state == RunState.DONE or self.withdrawn is not None

    def learn(self, place: int, found: np.ndarray) -> None:
        """Take records of the tokens from index `place` on, as far as they are the prompt's. What was known already stays
        as it was.

        Readers are not woken: a sample's next token does that, or the caller's `touch` where nothing is written.
        """
        with self.changed:
            here = self._prompt[place : place + len(found)]
            found = found[: len(here)]
            new = known(found) & ~known(here)
            here[new] = found[new]

    def close_prompt(self) -> None:
        """All that will be known of the prompt is known. Readers are woken as by `learn`."""
        with self.changed:
            self.prompt_known = True

    def touch(self) -> None:
        """Tell readers that something changed; call with `changed` held."""
        self.version += 1
        self.changed.notify_all()

    def set_state(self, state: RunState, place: int = 0, seconds: float | None = None) -> None:
        """Say where the run is; an estimate that changed by less than a second is no news."""
        with self.changed:
            news = seconds is not None and (self.seconds is None or abs(seconds - self.seconds) >= 1)
            if (state, place) != (self.state, self.place) or news:
                self.state, self.place, self.seconds = state, place, seconds
                self.touch()

    def note_restart(self) -> None:
        """Count that the run was taken up anew once more, and tell readers."""
        with self.changed:
            self.restarts += 1
            self.touch()

    def finish(self, sample: SampleLog, reason: str, text_end: int, error: Problem | None = None) -> None:
        """End one sample, once; the run is done when all its samples are. Every token is released now."""
        with self.changed:
            if sample.finish_reason is None:
                sample.finish_reason, sample.text_end, sample.error = reason, text_end, error
                sample.released = len(sample)
                if self._tally is not None:
                    self._tally.ended[str(reason)] += 1
            if all(s.finish_reason for s in self.samples):
                self.state, self.prompt_known = RunState.DONE, True
            self.touch()

    def count_in(self, tally: Tally, yields: bool) -> None:
        """An engine takes it in line, and counts it; of one that `yields` neither that it came nor how long it waits."""
        self._tally = tally
        if not yields:
            tally.runs += 1
            self._asked = time.monotonic()

    def count_first_token(self) -> None:
        """Its first token since then is there, or one after it."""
        if self._tally is not None and self._asked is not None:
            self._tally.first(self._asked)
            self._asked = None

    def withdraw(self, why: Withdrawal) -> None:
        """Send the readers away from this log. Whoever writes it is asked to stop by the engine's `cancel`."""
        with self.changed:
            self.withdrawn = self.withdrawn or why
            self.touch()

    def wait(self, version: int, timeout: float) -> int:
        """Wait until the log differs from `version`, at most `timeout` seconds; return its version now."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != version, timeout)
            return self.version

    def wait_until_done(self) -> None:
        """Wait until nothing more will come, however long that takes."""
        with self.changed:
            self.changed.wait_for(lambda: self.done)
