"""What can go wrong between us and an engine, and what is done about it.

what went wrong                                             what is done
no connection, a cut, a time-out, 5xx, an answer that is    `Broken`: the engine is tried before it gets more work; the
no such answer                                              text goes on elsewhere from its last token, or here
it has too much to do (429, 503 with Retry-After)           `Crowded`: it is asked again in a while
it has no such model, or refuses the key                    `Broken`, as what it has is looked at anew
it says that the request itself is wrong (other 4xx)        `Refused`: the text ends, with what it said
"""

from generate.errors import MOST, Problem

TOO_MANY, UNAVAILABLE, KEYLESS, MISSING = 429, 503, (401, 403), 404
PATIENCE = 5.0  # seconds between two tries at the most, whatever an engine says


class Broken(Exception):
    """An engine failed; another, or the same later, may do better."""

    def __init__(self, message: str, /, **values: object):
        super().__init__(message)
        self.problem = Problem(message, **values)


class Crowded(Exception):
    """An engine has too much to do; it may be asked again in so many seconds."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


class Refused(Exception):
    """An engine will not do this, however often it is asked."""

    def __init__(self, reason: str | Problem):
        super().__init__(reason)
        self.problem = Problem("The engine refused this: {reason}", reason=reason)


def failure_of(status: int, retry_after: str | None, told: object) -> Exception:
    """What an answer with this status means; `told` is its body, of whatever form."""
    error = told.get("error") if isinstance(told, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    soon = retry_after if retry_after and retry_after.isdigit() else None
    if status == TOO_MANY or (status == UNAVAILABLE and soon):  # without it, a balancer found nobody
        return Crowded(min(float(soon or 1), PATIENCE))
    if status in KEYLESS:
        return Broken("it refuses the key (RUBRIC_ENGINE_KEY)")
    if status == MISSING:
        return Broken("it has no such address or no such model")
    if 400 <= status < 500 and status != 408:
        return Refused(
            said[:MOST] if isinstance(said, str) else Problem("its answer has status {status}.", status=status)
        )
    return Broken("it answered with status {status}", status=status)
