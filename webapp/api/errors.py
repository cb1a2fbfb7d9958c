"""What the API answers when something cannot be done: OpenAI's form, `{"error": {"message", "type", "param", "code"}}`."""

from generate import Busy, Problem, Refusal
from webapp.http.json_text import json_text

INVALID, SERVER = "invalid_request_error", "server_error"


class Wrong(Refusal):
    """A request that cannot be done as it stands; `field` is the one at fault. `status` is what HTTP calls it."""

    status, kind, code = 400, INVALID, "invalid_value"


class TooLong(Wrong):
    """A prompt that the model's window does not hold."""

    code = "context_length_exceeded"


class TooLarge(Wrong):
    """A body of more bytes than are read."""

    status, code = 413, "body_too_large"


class UnknownModel(Wrong):
    """There is no such model, or it cannot be used."""

    status, code = 404, "model_not_found"


class NotHere(Wrong):
    """There is no such address, or not for this method."""

    status, code = 404, "not_found"


class NoKey(Wrong):
    """No key, or none that is good here."""

    status, kind, code = 401, "authentication_error", "invalid_api_key"


class KeyBlocked(Wrong):
    """A key that is good for nothing for a time."""

    status, kind, code = 403, "permission_error", "key_blocked"


class Failed(Refusal):
    """The model failed, or the run was taken away."""

    status, kind, code = 500, SERVER, "failed"


def not_here(method: str, path: str) -> NotHere:
    """The refusal for an address that there is not, or not for this method."""
    return NotHere("There is no {method} {path} here.", method=method, path=path[:80])


def failed(problem: Problem) -> Failed:
    """The refusal for a sample that ended with an error."""
    return Failed("{problem}", problem=problem)


def status_of(refusal: Refusal) -> int:
    """What HTTP calls it: 503 when we are only busy, and 400 for whatever a field holds."""
    return 503 if isinstance(refusal, Busy) else getattr(refusal, "status", 400)


def told(refusal: Refusal) -> dict:
    """The answer's body, as openai-python reads it."""
    busy = isinstance(refusal, Busy)
    return body_of(
        str(refusal),
        SERVER if busy else getattr(refusal, "kind", INVALID),
        refusal.field,
        "busy" if busy else getattr(refusal, "code", Wrong.code),
    )


def body_of(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event_of(refusal: Refusal) -> str:
    """The same as an event of a stream that has begun already."""
    return f"data: {json_text(told(refusal))}\n\n"
