"""Who is let in next: rows are shared out between owners, and everybody who waits knows a place and an estimate."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from generate.interface.log import RunLog
from generate.interface.request import Request

FAR_AHEAD = 500  # samples that a forecast plays through at the most; whoever comes later is told no estimate yet
MOST_OWNERS = 10_000  # whose last turn is remembered


@dataclass(eq=False)
class Ticket:
    """A run that waits, as a whole or with some of its samples. `seconds` is how long one sample may take.

    `ended` of its samples were over before it came: it goes on with the others. A run that only reads takes one row,
    however many samples it has.
    """

    request: Request
    log: RunLog
    seconds: float = 0.0
    granted: int = 0
    ended: int = 0

    @property
    def left(self) -> int:
        """Samples that are still to be let in."""
        wanted = 1 if self.request.only_reads else self.request.sampling.samples - self.ended
        return wanted - self.granted


@dataclass(frozen=True)
class Forecast:
    """A ticket's place in line, from 1, and the seconds until its first sample begins."""

    ticket: Ticket
    place: int
    seconds: float


class Queue:
    """Rows go one by one to the owner who holds the fewest, of those to the one served longest ago.

    An owner's own runs come in the order they were sent, so whoever sends ten waits for the nine before the tenth, and
    nobody else does. Those that yield stand behind all others, and get rows that no other wants.
    """

    def __init__(self):
        self.tickets: list[Ticket] = []
        self.changed = False  # somebody came or left since this was last set to False
        self._served: dict[str, int] = {}
        self._turn = 0

    @property
    def waiting(self) -> list[Ticket]:
        """Tickets of which no sample has begun; those that yield are the last."""
        return [ticket for ticket in self.tickets if ticket.granted == 0]

    @property
    def waiting_runs(self) -> int:
        """How many that do not yield wait: whoever comes next counts no others before them."""
        return sum(not ticket.request.yields for ticket in self.waiting)

    def add(self, ticket: Ticket) -> None:
        """Put a run at the end of the line, in front of those that yield."""
        behind = 0 if ticket.request.yields else sum(other.request.yields for other in self.tickets)
        self.tickets.insert(len(self.tickets) - behind, ticket)
        self.changed = True
        self._served.setdefault(ticket.request.owner, self._turn)  # whoever is new comes after those who wait
        if len(self._served) > MOST_OWNERS:
            here = {t.request.owner for t in self.tickets}
            self._served = {owner: turn for owner, turn in self._served.items() if owner in here}

    def remove(self, ticket: Ticket) -> None:
        """Take a run out of the line before all of its samples were let in."""
        self.tickets.remove(ticket)
        self.changed = True

    def next(self, held: Mapping[str, int], fits: Callable[[Ticket], bool]) -> Ticket | None:
        """Whose turn it is among the tickets that `fits` allows, given how many rows each owner holds."""
        return first_of(filter(fits, self.tickets), held, self._served)

    def grant(self, ticket: Ticket) -> None:
        """One sample of the ticket was let in; it leaves the line with its last."""
        self._turn += 1
        self._served[ticket.request.owner] = self._turn
        ticket.granted += 1
        if ticket.left == 0:
            self.tickets.remove(ticket)

    def forecast(
        self, running: Iterable[tuple[float, str]], free: int, newcomer: Ticket | None = None
    ) -> list[Forecast]:
        """Play the line through: `running` rows end after so many seconds and belong to so-and-so, `free` are idle.

        `newcomer` is a run that might be sent now by somebody who has none; with one, the play ends with its turn.
        """
        ends: list[tuple[float, int, str | None]] = [(0.0, n, None) for n in range(free)]
        ends += [(seconds, free + n, owner) for n, (seconds, owner) in enumerate(running)]
        heapq.heapify(ends)
        held = Counter(owner for _, _, owner in ends)
        served, turn = dict(self._served), self._turn
        left = {ticket: ticket.left for ticket in self.tickets}
        if newcomer is not None:
            left[newcomer] = newcomer.left
            served[newcomer.request.owner] = turn
        found: list[Forecast] = []
        waiting = sum(ticket.granted == 0 for ticket in left)
        while len(found) < waiting and ends and turn < self._turn + FAR_AHEAD:
            now, number, owner = heapq.heappop(ends)
            held[owner] -= 1
            ticket = first_of((t for t in left if left[t]), held, served)
            if ticket.granted == 0 and left[ticket] == ticket.left:
                found.append(Forecast(ticket, len(found) + 1, now))
                if ticket is newcomer:
                    break
            left[ticket] -= 1
            turn += 1
            served[ticket.request.owner] = turn
            held[ticket.request.owner] += 1
            heapq.heappush(ends, (now + ticket.seconds, number, ticket.request.owner))
        return found


def first_of(tickets: Iterable[Ticket], held: Mapping[str, int], served: Mapping[str, int]) -> Ticket | None:
    """Of tickets in the order they came: the one whose owner holds the fewest rows and was served longest ago, among
    those that yield only where there are no others."""

    def turn(ticket: Ticket) -> tuple[bool, int, int]:
        owner = ticket.request.owner
        return ticket.request.yields, held.get(owner, 0), served.get(owner, 0)

    return min(tickets, key=turn, default=None)
