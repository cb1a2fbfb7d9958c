"""How requests were answered: counted by their status, and logged, a line each where the settings ask for that.

A line names the page by its pattern, as an address may hold a run's link or a text, and nobody's address.
"""

import logging
import threading
import time
from collections import Counter

from flask import Flask, Response, g, request

log = logging.getLogger(__name__)

OFTEN, WRONG = "often", "request"  # why something was refused
READY = (
    "health.readyz"  # whose 503 refuses no visitor: who watches a server asks it all the while that a model is loaded
)
REFUSED = {429: OFTEN, 400: WRONG, 413: WRONG, 415: WRONG, 422: WRONG}  # by the status


class Answers:
    """Counts of one server: by the class of the status (`2xx`), and of refusals by what they were for."""

    def __init__(self):
        self._by_class, self._refused = Counter(), Counter()
        self._lock = threading.Lock()

    def note(self, status: int) -> None:
        """One was sent."""
        with self._lock:
            self._by_class[f"{status // 100}xx"] += 1
            if status in REFUSED:
                self._refused[REFUSED[status]] += 1

    @property
    def by_class(self) -> dict[str, int]:
        """How many there were of each class."""
        with self._lock:
            return {name: self._by_class[name] for name in ("2xx", "3xx", "4xx", "5xx")}

    @property
    def refused(self) -> dict[str, int]:
        """How many requests came too often from one address, and how many could not be done as they stood."""
        with self._lock:
            return {why: self._refused[why] for why in (OFTEN, WRONG)}


def register(app: Flask, answers: Answers) -> None:
    """Count and log all answers of an app; call before all else that looks at a request."""

    def begin() -> None:
        g.begun = time.perf_counter()

    def note(response: Response) -> Response:
        if request.endpoint != READY:
            answers.note(response.status_code)
        if log.isEnabledFor(logging.INFO):
            tell(response.status_code, time.perf_counter() - g.begun if "begun" in g else 0.0)
        return response

    app.before_request(begin)
    app.after_request(note)


def tell(status: int, seconds: float) -> None:
    """Log an answer; of a stream its beginning."""
    method = request.method if request.method.isascii() and request.method.isalpha() else "?"
    page = request.url_rule.rule if request.url_rule is not None else "-"
    told = {"method": method[:20], "page": page, "status": status, "seconds": round(seconds, 4)}
    log.info("%s %s %d in %.3f s", method[:20], page, status, seconds, extra={"told": told})
