"""The numbers that say whether a server is well, all at one moment."""

import time
from dataclasses import dataclass, field

from prometheus_client import ProcessCollector

from generate import Engine, Tally
from webapp.http.answers import Answers
from webapp.runs.registry import Streams
from webapp.watch.disk import Disk

RESIDENT = "process_resident_memory_bytes"
STALE = 60.0  # seconds after which nothing is known of the database


@dataclass(frozen=True)
class Stored:
    """What was found at the last look into the database: whether it `answers`, its size in bytes (None: not told), and its
    jobs by their state."""

    at: float = float("-inf")  # monotonic
    answers: bool = False
    size: int | None = None
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Numbers:
    """`tallies` and `rows` are the engine's, by model; `refused` counts by what for, `answers` by the status's class.
    `memory` is resident, in bytes; None where the system does not tell."""

    ready: bool
    tallies: dict[str, Tally]
    rows: dict[str, int]
    waiting: int
    streams: int
    most_streams: int
    refused: dict[str, int]
    answers: dict[str, int]
    memory: int | None
    disk_free: int
    disk_total: int
    stored: Stored

    @property
    def all(self) -> Tally:
        """What all models did together."""
        whole = Tally()
        for tally in self.tallies.values():
            whole.add(tally)
        return whole


class Gauges:
    """Reads the numbers off one server's parts. `slots` are the places of the API, `engine` None where none writes."""

    def __init__(self, engine: Engine | None, streams: Streams, slots: Streams, answers: Answers, disk: Disk):
        self._engine, self._streams, self._slots, self._answers, self._disk = engine, streams, slots, answers, disk
        self._process = ProcessCollector(registry=None)
        self.stored = Stored()

    def read(self) -> Numbers:
        """All of them, now."""
        engine = self._engine
        tallies = engine.tallies if engine else {}
        refused = {
            "line": sum(tally.refused for tally in tallies.values()),
            "streams": self._streams.refused,
            "api": self._slots.refused,
            **self._answers.refused,
        }
        return Numbers(
            engine is not None and engine.ready() is None,
            tallies,
            engine.rows if engine else {},
            engine.outlook.waiting if engine else 0,
            self._streams.taken,
            self._streams.most,
            refused,
            self._answers.by_class,
            self._memory(),
            self._disk.free,
            self._disk.total,
            self.stored if time.monotonic() - self.stored.at < STALE else Stored(),
        )

    def _memory(self) -> int | None:
        found = [family.samples[0].value for family in self._process.collect() if family.name == RESIDENT]
        return int(found[0]) if found else None
