"""Moments: all of UTC, stored without saying so."""

from datetime import UTC, datetime


def now() -> datetime:
    """This one."""
    return datetime.now(UTC).replace(tzinfo=None)


def minute(when: datetime) -> str:
    """One in digits alone, for a sentence in any language: `2026-03-07 14:05`."""
    return f"{when:%Y-%m-%d %H:%M}"
