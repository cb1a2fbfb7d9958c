"""A database without room: whatever asked for something to be stored hears of it as one refusal, and keeps what it had."""

from collections.abc import Callable

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from generate import Busy

SQLITE_FULL = 13
POSTGRESQL_FULL = "53100"
LATER = 30  # seconds after which somebody may try again


class DiskFull(Busy):
    """The database has no room for this; what it holds it keeps."""


def tell_when_full(engine: Engine, heard: Callable[[], None]) -> None:
    """Let DiskFull be raised in the place of what the driver raises when there is no room, and call `heard` each time."""

    def look(context: ExceptionContext) -> None:
        if is_full(context.original_exception):
            heard()
            raise DiskFull(
                "The server’s disk is full, so this cannot be kept. What was kept before is still there.", LATER
            ) from context.original_exception

    event.listen(engine, "handle_error", look)


def is_full(error: BaseException) -> bool:
    """Whether a driver's exception says that there is no room."""
    code = getattr(error, "sqlite_errorcode", None)
    return (code is not None and code & 0xFF == SQLITE_FULL) or getattr(error, "sqlstate", None) == POSTGRESQL_FULL
