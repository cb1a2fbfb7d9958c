"""Where the numbers are read off: the engine, the places, the answers, the disk, the process."""

import time

from prometheus_client import ProcessCollector

from generate import Engine
from webapp.http.answers import Answers
from webapp.runs.registry import Streams
from webapp.watch.disk import Disk
from webapp.watch.numbers import Numbers, Stored

RESIDENT = "process_resident_memory_bytes"
STALE = 60.0  # seconds after which nothing is known of the database


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
