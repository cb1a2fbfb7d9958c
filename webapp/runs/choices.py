"""What the operator chose of the models: which one is offered first, and which no visitor sees.

It is kept in the instance folder and not in the models' own, which may be read-only, or shared with another server.
"""

import json
import threading
from pathlib import Path

from generate import Refusal, write_json

FILE = "models.json"


class Choices:
    """Those of one server; in the file `instance/models.json`, read anew whenever it changed."""

    def __init__(self, instance: Path):
        self._file = instance / FILE
        self._lock = threading.Lock()
        self._read: tuple[int, dict] = (0, {})

    @property
    def default(self) -> str | None:
        """The model that was chosen to be offered first; None where none was."""
        found = self._now().get("default")
        return found if isinstance(found, str) else None

    @property
    def hidden(self) -> frozenset[str]:
        """The models that are for the operator alone."""
        found = self._now().get("hidden")
        return frozenset(name for name in found if isinstance(name, str)) if isinstance(found, list) else frozenset()

    def choose(self, name: str) -> None:
        """Offer a model first; raises OSError."""
        with self._lock:
            self._keep(name, self.hidden)

    def hide(self, name: str, hidden: bool) -> None:
        """Keep a model from visitors, or show it again; raises OSError."""
        with self._lock:
            self._keep(self.default, self.hidden | {name} if hidden else self.hidden - {name})

    def rename(self, old: str, new: str | None) -> None:
        """A model has another name now, or is gone; raises OSError."""
        with self._lock:
            hidden = self.hidden - {old, new}
            if new is not None and old in self.hidden:
                hidden |= {new}
            self._keep(new if self.default == old else self.default, hidden)

    def _keep(self, default: str | None, hidden: frozenset[str]) -> None:
        if (default, hidden) == (
            self.default,
            self.hidden,
        ):  # a full disk is in the way of nothing that changes nothing
            return
        write_json(self._file, {"default": default, "hidden": sorted(hidden)})

    def _now(self) -> dict:
        try:
            changed = self._file.stat().st_mtime_ns
            if self._read[0] != changed:
                found = json.loads(self._file.read_text("utf-8"))
                self._read = changed, found if isinstance(found, dict) else {}
        except FileNotFoundError:
            return {}
        except ValueError:  # what was hidden must not be shown for that
            raise Refusal("{file} cannot be read; mend or remove it.", file=self._file.name) from None
        return self._read[1]
