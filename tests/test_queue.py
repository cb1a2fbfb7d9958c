"""Who is let in next: rows are shared between owners, and what people are told is what happens."""

import heapq
from collections import Counter
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from generate import Request, Sampling
from generate.scheduling.queue import Queue, Ticket

OWNERS = ["ada", "ben", "cleo", "dan", ""]  # "" is whoever gives no name, say a script


def ticket(owner, samples=1, seconds=1.0) -> Ticket:
    return Ticket(Request(None, Sampling(samples=samples), owner=owner), None, seconds)


def line_of(tickets) -> Queue:
    line = Queue()
    for one in tickets:
        line.add(one)
    return line


class World:
    """A line and its rows: whoever is let in holds a row for the seconds that the ticket says."""

    def __init__(self, line, rows, running=()):
        self.line, self.free, self.now = line, rows - len(running), 0.0
        self.ends = [(end, number, owner) for number, (end, owner) in enumerate(running)]
        heapq.heapify(self.ends)
        self.served: list[tuple[Ticket, float]] = []

    @property
    def held(self) -> Counter:
        return Counter(owner for _, _, owner in self.ends)

    def fill(self, fits=lambda ticket: True):
        """Give away all free rows."""
        while self.free and (chosen := self.line.next(self.held, fits)):
            self.line.grant(chosen)
            self.free -= 1
            self.served.append((chosen, self.now))
            end = self.now + chosen.seconds
            heapq.heappush(self.ends, (end, len(self.served) + 1000, chosen.request.owner))

    def end_one(self, place=0):
        self.now, _, _ = self.ends.pop(place)
        heapq.heapify(self.ends)
        self.free += 1

    def play(self):
        """Until everybody was served; returns each ticket's first moment, in the order they came."""
        self.fill()
        while self.line.tickets:
            self.end_one()
            self.fill()
        firsts = {}
        for chosen, moment in self.served:
            firsts.setdefault(chosen, moment)
        return list(firsts.items())


requests = st.lists(st.tuples(st.sampled_from(OWNERS), st.integers(1, 5)), min_size=1, max_size=20)


@given(requests, st.integers(1, 9), st.data())
def test_no_owner_holds_more_than_one_row_more_than_another_who_waits(wanted, rows, data):
    """Whatever the number of runs and samples each has sent, and whichever rows end."""
    world = World(line_of(ticket(owner, samples) for owner, samples in wanted), rows)
    world.fill()
    while world.line.tickets:
        waiting = {t.request.owner for t in world.line.tickets}
        held = world.held
        assert all(held[somebody] <= held[who] + 1 for who in waiting for somebody in held)
        world.end_one(data.draw(st.integers(0, len(world.ends) - 1)))
        world.fill()


@given(requests, st.integers(1, 9))
def test_an_owner_s_own_runs_begin_in_the_order_they_were_sent(wanted, rows):
    tickets = [ticket(owner, samples) for owner, samples in wanted]
    order = [chosen for chosen, _ in World(line_of(tickets), rows).play()]
    for owner in OWNERS:
        assert [t for t in order if t.request.owner == owner] == [t for t in tickets if t.request.owner == owner]
    assert len(order) == len(tickets)


def test_whoever_sends_ten_runs_keeps_nobody_else_waiting():
    line = line_of([*(ticket("ada") for _ in range(10)), ticket("ben")])
    order = [chosen.request.owner for chosen, _ in World(line, 1).play()]
    assert order[:3] == ["ada", "ben", "ada"]


def test_thirty_two_samples_count_as_much_as_thirty_two_runs():
    line = line_of([ticket("ada", samples=32), ticket("ben"), ticket("ben")])
    world = World(line, 4)
    world.fill()
    assert world.held == {"ada": 2, "ben": 2}


def test_whoever_comes_back_at_once_does_not_pass_those_who_wait():
    """Ben sends one run after another, Ada ten together; there is one row, and they take turns."""
    world = World(line_of([*(ticket("ada") for _ in range(10)), ticket("ben")]), 1)
    for _ in range(10):
        world.fill()
        if not any(t.request.owner == "ben" for t in world.line.tickets):
            world.line.add(ticket("ben"))
        world.end_one()
    order = [chosen.request.owner for chosen, _ in world.served]
    assert order == ["ada", "ben"] * 5


def test_an_owner_whose_model_has_no_room_lets_the_others_pass():
    first, second = ticket("ada"), ticket("ben")
    line = line_of([first, second])
    assert line.next({}, lambda one: one is not first) is second
    assert line.next({}, lambda one: False) is None


def test_a_run_of_which_one_sample_writes_is_not_waiting_any_more():
    run = ticket("ada", samples=3)
    line = line_of([run, ticket("ben")])
    line.grant(run)
    assert [t.request.owner for t in line.waiting] == ["ben"]
    assert run in line.tickets
    assert run.left == 2
    line.grant(run)
    line.grant(run)
    assert run not in line.tickets


situations = st.tuples(
    st.lists(st.tuples(st.sampled_from(OWNERS), st.integers(1, 4), st.integers(1, 999)), min_size=1, max_size=15),
    st.lists(st.tuples(st.integers(1, 999), st.sampled_from(OWNERS)), max_size=6),
    st.integers(0, 4),
)


def scene(wanted, running):
    """Tickets and running rows whose moments never coincide: fractions of a second differ between all of them."""
    tickets = [ticket(o, n, s + 2.0 ** -(place + 8)) for place, (o, n, s) in enumerate(wanted)]
    return tickets, [(s + 2.0 ** -(place + 30), owner) for place, (s, owner) in enumerate(running)]


@given(situations)
def test_the_forecast_is_what_then_happens(situation):
    wanted, running, free = situation
    if not running and not free:
        free = 1
    tickets, running = scene(wanted, running)
    line = line_of(tickets)
    told = line.forecast(running, free)
    happened = World(line, free + len(running), running).play()
    assert [(f.ticket, f.seconds) for f in told] == happened
    assert [f.place for f in told] == [*range(1, len(tickets) + 1)]


@given(situations)
def test_estimates_grow_with_the_place(situation):
    wanted, running, free = situation
    tickets, running = scene(wanted, running)
    before = 0.0
    for forecast in line_of(tickets).forecast(running, free):
        assert before <= forecast.seconds < inf
        before = forecast.seconds


def test_a_forecast_changes_nothing():
    line = line_of([ticket("ada", samples=2), ticket("ben"), ticket("ada")])
    assert line.forecast([(1.0, "ada")], 1) == line.forecast([(1.0, "ada")], 1)
    assert [t.granted for t in line.tickets] == [0, 0, 0]


def test_a_partly_granted_run_has_no_place_but_takes_its_turns():
    run, other = ticket("ada", samples=3, seconds=10), ticket("ada")
    line = line_of([run, other])
    line.grant(run)
    told = line.forecast([(10.0, "ada")], 0)
    assert [(f.ticket, f.place) for f in told] == [(other, 1)]
    assert told[0].seconds == 30  # after the second and the third sample


def test_nothing_is_foretold_where_no_row_will_ever_be_free():
    assert line_of([ticket("ada")]).forecast([], 0) == []


@given(
    st.lists(st.builds(ticket, st.sampled_from(OWNERS), st.integers(1, 4), st.floats(0.1, 9)), max_size=20),
    st.integers(1, 5),
)
def test_whoever_thinks_of_coming_is_told_when_their_turn_would_be(tickets, rows):
    line, newcomer = line_of(tickets), ticket("whoever comes next")
    places = [(f.ticket, f.place, f.seconds) for f in line.forecast([], rows)]
    told = next(f.seconds for f in line.forecast([], rows, newcomer) if f.ticket is newcomer)
    assert [(f.ticket, f.place, f.seconds) for f in line.forecast([], rows)] == places, "asking changes nothing"
    line.add(newcomer)
    world = World(line, rows)
    world.play()
    assert next(now for served, now in world.served if served is newcomer) == told
