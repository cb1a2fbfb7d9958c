"""Presses of a button that makes or removes something: who presses the same one again is led to where the first led.

A press is known by what names it (its form's nonce and contents, hashed), in the database, so that it is one for all
servers that share it and also where two arrive at the same moment.
"""

import time
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from generate import Busy
from webapp.runs.lease import CHANGE
from webapp.runs.registry import Clock
from webapp.runs.tables import Press, db

KEPT = 24 * 3600.0  # seconds after which a press is forgotten
LOST = 120.0  # seconds after which a press that led nowhere counts as one whose server died
PATIENCE = 30.0  # seconds that a second press waits to learn where the first leads
LOOK = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Claim:
    """What became of a press: `address` is where it led; None: it is the caller's to do, in the name of `owner`.

    `kept` is False where the same press is somebody else's; then nothing is remembered of this one.
    """

    owner: str
    address: str | None = None
    kept: bool = True


class Presses:
    """Those of the last day."""

    def __init__(self, clock: Clock):
        self._clock = clock

    def claim(self, name: str, owner: str, is_new: bool) -> Claim:
        """Take a press, or find where it led, waiting for that if need be; commits. Raises Busy when it takes too long.

        `is_new`: the visitor was nobody until now. Of two such presses the second is by the same person as the first,
        whose cookie had not come yet.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            now = self._clock.now()
            if insert_press(name, owner, now):
                return Claim(owner)
            found = db.session.execute(
                select(Press.owner, Press.created, Press.address).where(Press.name == name)
            ).first()
            db.session.rollback()  # or the next look would see the same
            if found is None:  # it was refused meanwhile
                continue
            if found.owner != owner and not is_new:
                return Claim(owner, kept=False)
            if found.address is not None:
                return Claim(found.owner, found.address)
            if found.created < now - LOST:
                forget((Press.name == name) & (Press.created == found.created))
            elif time.monotonic() > deadline:
                raise Busy("The same form is still being worked on; please look again in a moment.")
            else:
                time.sleep(LOOK)

    def lead(self, name: str, address: str) -> None:
        """Remember where a press led; commits."""
        db.session.execute(update(Press).where(Press.name == name).values(address=address), execution_options=CHANGE)
        db.session.commit()

    def release(self, name: str) -> None:
        """A press that came to nothing may be done again. What its transaction had begun is undone."""
        db.session.rollback()
        forget(Press.name == name)

    def expire(self) -> None:
        """Forget those of yesterday."""
        forget(Press.created < self._clock.now() - KEPT)


def insert_press(name: str, owner: str, now: float) -> bool:
    """Add a press that leads nowhere yet; False when there is one of that name. Commits."""
    try:
        db.session.execute(insert(Press).values(name=name, owner=owner, created=now))
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        return False
    return True


def forget(which) -> None:
    """Delete the presses that a condition on `Press` names; commits."""
    db.session.execute(delete(Press).where(which), execution_options=CHANGE)
    db.session.commit()
