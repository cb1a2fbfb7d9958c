"""How many runs of the API the engine has at once, and whose is next: the rest waits here, so that pages find the line short.

Each run is one of a request's prompts. A free place goes to the owner who holds the fewest, of those to who waits longest.
"""

import threading
from collections import Counter
from dataclasses import dataclass


@dataclass(eq=False)
class Place:
    """One place, wanted or held by `owner`."""

    owner: str
    held: bool = False


class Places:
    """`most` places."""

    def __init__(self, most: int):
        self._most, self._waiting, self._held = most, [], Counter()
        self._lock = threading.Lock()

    def ask(self, owner: str) -> Place:
        """Ask for a place; it is held at once, or later."""
        place = Place(owner)
        with self._lock:
            self._waiting.append(place)
            self._deal()
        return place

    def give_back(self, place: Place) -> None:
        """Free a place, or stop waiting for it. No-op for one that was given back before."""
        with self._lock:
            if place.held:
                place.held = False
                self._held[place.owner] -= 1
                self._held += Counter()  # forgets owners who hold none
            elif place in self._waiting:
                self._waiting.remove(place)
            self._deal()

    def _deal(self) -> None:
        while self._waiting and self._held.total() < self._most:
            place = min(self._waiting, key=lambda place: self._held[place.owner])
            self._waiting.remove(place)
            place.held = True
            self._held[place.owner] += 1
