"""How far a job is, as its process tells in the lines of its journal (`generate/journal.py`)."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

LINES, SAMPLES, ENTRIES = 40, 60, 600  # of each kind kept at the most; a training alone has a hundred entries
LONGEST = 2**20  # bytes read at once


@dataclass
class Progress:
    """What is known by now. `done` of `total` in `unit`s; `pace` is units a second since `since` (seconds since 1970).

    `ended` is "" until the process told how it ended: "done", "stopped" or "refused", whose `sentence` is the terminal's;
    `problem` is it as a message and values, where it has such. `again` is whether the same may do another time.
    `history`, `evaluations` and `samples` are as in run.json, `found` what a look found, `says` the last lines it printed.
    """

    stage: str = ""
    done: float = 0
    total: float = 0
    unit: str = ""
    pace: float = 0
    since: float = 0
    begun_at: float = 0
    ended: str = ""
    sentence: str = ""
    problem: dict = field(default_factory=dict)
    again: bool = False
    says: list[str] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    samples: list[dict] = field(default_factory=list)
    found: dict = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: dict | None) -> "Progress":
        """What was stored in a job's row; what is missing there has its default."""
        stored = stored or {}
        return cls(**{one.name: stored[one.name] for one in fields(cls) if one.name in stored})

    def as_json(self) -> dict:
        """What is stored in a job's row."""
        return asdict(self)

    @property
    def left(self) -> float | None:
        """Seconds that the rest of this stage will take; None where they are not known."""
        return (self.total - self.done) / self.pace if self.pace > 0 else None

    def take(self, event: dict) -> None:
        """Let an event change what is known; one of an unknown kind changes nothing."""
        event = clean(event)
        at = event.get("at", 0)
        match event.get("event"):
            case "began":
                self.stage, self.ended, self.sentence, self.again, self.says = "starting", "", "", False, []
                self.problem = {}
                self._count(0, 0, "", at)
            case "stage":
                self.stage = event["name"]
                self._cut(event)
                unit = "steps" if "steps" in event else ""
                self._count(event.get("step", 0), event.get("steps", 0), unit, at)
            case "progress":
                self._go(event["done"], event["total"], event["unit"], at)
            case "step":
                self._go(event["step"], event["steps"], "steps", at)
            case "history" | "evaluations" | "samples" as kind:
                entries = getattr(self, kind)
                entries.append({name: value for name, value in event.items() if name not in ("event", "at")})
                del entries[: -(SAMPLES if kind == "samples" else ENTRIES)]
            case "says":
                self.says = [*self.says, *event["lines"]][-LINES:]
            case "found":
                self.found = {name: value for name, value in event.items() if name not in ("event", "at")}
            case "refused":
                self.ended, self.sentence = "refused", event["sentence"]
                self.problem = event.get("problem", {})
                self.again = event.get("again", False)
            case "done" | "stopped" as ended:
                self.ended = ended

    def _count(self, done: float, total: float, unit: str, at: float) -> None:
        """Begin to count anew, from `done`."""
        self.done, self.total, self.unit = done, total, unit
        self.pace, self.since, self.begun_at = 0, at, done

    def _go(self, done: float, total: float, unit: str, at: float) -> None:
        """Go on counting."""
        self.done, self.total, self.unit = done, total, unit
        if at > self.since:
            self.pace = (done - self.begun_at) / (at - self.since)

    def _cut(self, event: dict) -> None:
        """A training that goes on does again what came after its last checkpoint."""
        if "step" in event:
            for name in ("history", "evaluations", "samples"):
                setattr(self, name, [entry for entry in getattr(self, name) if entry.get("step", 0) <= event["step"]])


def clean(told: object) -> object:
    """What a process told, with such text alone as every database and page can take: no halves of characters, no NUL."""
    if isinstance(told, str):
        return told.encode("utf-8", "replace").decode().replace("\0", "?")
    if isinstance(told, list):
        return list(map(clean, told))
    return {clean(name): clean(value) for name, value in told.items()} if isinstance(told, dict) else told


class Tail:
    """The lines of a journal as they are added."""

    def __init__(self, file: Path):
        self._file, self._place, self._rest = file, 0, b""

    def read(self) -> list[dict]:
        """The events that came since the last time; lines that are none, as a full disk makes them, are left out."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._place)
                body = file.read(LONGEST)
        except FileNotFoundError:
            return []
        self._place += len(body)
        *lines, self._rest = (self._rest + body).split(b"\n")
        return [event for event in map(event_of, lines) if event is not None]


def event_of(line: bytes) -> dict | None:
    """An event; None for a line that is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
