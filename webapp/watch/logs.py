"""What is logged: a line each, as words or as JSON.

Nothing that people write goes into it. Of an exception its kind is told, and the places that it came through; its message only
where the system, a database or a library made it, as others quote what they could not use. Of what gunicorn says its own words
are told and its numbers, and of a request that it could not read the kind of the error: it quotes addresses, and bodies too.
"""

import json
import logging
import re
import sys
import time
import traceback
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from generate import Refusal, files

TOLD = (OSError, MemoryError, RuntimeError, AttributeError, TypeError, ImportError, AssertionError)
PLACES = 6  # of an exception that are told, the innermost last
MOST = 300  # characters of a message
NETWORK = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\[?\b(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\b\]?", re.I)
QUOTED = re.compile(r"\".*", re.S)  # what a database could not read may be a text, in which there may be quotes too
OF_GUNICORN = "gunicorn."  # loggers that put addresses, and whatever could not be read, into their messages
UNREADABLE = "Invalid request"  # how one of their messages begins, which is put together already
OURS = ("Starting gunicorn", "Listening at", "Using worker", "Connection in use", "Invalid address", "Can't connect to")
SIGNAL = re.compile(r"SIG[A-Z]+[0-9]?")


def config(form: str, level: str) -> dict:
    """What `logging.config.dictConfig` takes; `form` is `plain` or `json`, `level` the least that is told of."""
    told = {"level": level.upper(), "propagate": True}  # gunicorn's own do not, by themselves
    requests = {
        "level": "CRITICAL",
        "propagate": True,
    }  # webapp/http/answers.py has a line for each, without its address
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Plain if form == "plain" else Json}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["console"]},
        "loggers": {name: dict(told) for name in ("webapp", "generate", "gunicorn.error")}
        | {"gunicorn.access": requests},
    }


class Plain(logging.Formatter):
    """`2026-11-29T20:30:00Z WARNING webapp.runs.recorder: what happened`, and of an exception what it was and where."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        error = f" | Traceback: {told_of(record.exc_info[1])}" if has_error(record) else ""
        return one_line(f"{moment(record)} {record.levelname} {record.name}: {said(record)}{error}")


class Json(logging.Formatter):
    """The same as an object; `told` of a record's extras are members of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = {"time": moment(record), "level": record.levelname.lower(), "logger": record.name}
        about |= {"message": said(record)} | getattr(record, "told", {})
        if has_error(record):
            about |= {"error": told_of(record.exc_info[1]), "where": places(record.exc_info[1])}
        return json.dumps(about, default=str)


def moment(record: logging.LogRecord) -> str:
    """When it was, in UTC to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"


def said(record: logging.LogRecord) -> str:
    """Its message, without what only a stranger's address says. A gunicorn logger may log an exception as its message."""
    if isinstance(record.msg, BaseException):
        return told_of(record.msg)
    return of_gunicorn(record) if record.name.startswith(OF_GUNICORN) else record.getMessage()


def of_gunicorn(record: logging.LogRecord) -> str:
    """What gunicorn's words are, with numbers, names of signals and what it says of itself; all else may be a stranger's."""
    words, values = str(record.msg), record.args if isinstance(record.args, tuple) else ()
    if words.startswith(UNREADABLE):
        kind = sys.exc_info()[0]  # it is told while the error is dealt with
        return f"{UNREADABLE}: {kind.__name__}" if kind else UNREADABLE
    if not values:
        return NETWORK.sub("…", first_line(words).partition("?")[0])
    if not words.startswith(OURS):
        values = tuple(value if is_plain(value) else "…" for value in values)
    return NETWORK.sub("…", words % values)


def is_plain(value: object) -> bool:
    """Whether a value of a message can be nobody's text."""
    return isinstance(value, int) or (isinstance(value, str) and SIGNAL.fullmatch(value) is not None)


def has_error(record: logging.LogRecord) -> bool:
    """Whether an exception was logged."""
    return bool(record.exc_info) and record.exc_info[1] is not None


def told_of(error: BaseException) -> str:
    """What may be told of an exception: `KeyError in home.py:31 create < wsgi.py:20 main`; and of what it came from."""
    found = kind_of(error)
    if where := places(error):
        found += f" in {' < '.join(reversed(where))}"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{found}, from {kind_of(cause)}" if cause is not None else found


def kind_of(error: BaseException) -> str:
    """Its class, and its message where that quotes nobody."""
    name = type(error).__name__
    if isinstance(error, DBAPIError):
        return f"{name}: {type(error.orig).__name__}: {QUOTED.sub('…', first_line(error.orig))}"
    if isinstance(error, Refusal):
        return f"{name}: {error.problem.message[:MOST]}"  # without its values
    is_told = isinstance(error, TOLD) and not type(error).__module__.startswith(OF_GUNICORN)  # NoMoreData quotes a body
    return f"{name}: {first_line(error)}" if is_told else name


def first_line(error: object) -> str:
    """The first line of a message: PostgreSQL quotes values in those that follow."""
    return (str(error).splitlines() or [""])[0][:MOST]


def places(error: BaseException) -> list[str]:
    """Where it came through, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    return [f"{short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]


def short(path: str) -> str:
    """A file as it is called here, or in its package."""
    file = Path(path)
    if file.is_relative_to(files.ROOT) and "site-packages" not in file.parts:
        return str(file.relative_to(files.ROOT))
    return "/".join(file.parts[-2:])


def one_line(text: str) -> str:
    """The same without line breaks."""
    return " ".join(text.splitlines())
