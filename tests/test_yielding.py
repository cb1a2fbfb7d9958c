"""Runs that yield, as suggestions do: they have rows that nobody else wants, and keep nobody waiting."""

import pytest
from conftest import finished
from engines import at_once, ids_of, running, stop, until_written
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from generate import Busy, Outlook, Request, Sampling
from generate.scheduling.queue import Queue, Ticket

LONG = 4096


def ticket(owner="ada", samples=1, yields=False) -> Ticket:
    return Ticket(Request(None, Sampling(samples=samples), owner=owner, yields=yields), None, 1.0)


def line_of(tickets) -> Queue:
    line = Queue()
    for one in tickets:
        line.add(one)
    return line


@pytest.fixture(scope="module")
def two(models):
    """A writer with two rows."""
    with running(models, max_rows=2) as writer:
        yield writer


tickets = st.lists(st.builds(ticket, st.sampled_from(["ada", "ben"]), st.integers(1, 3), st.booleans()), max_size=12)


@given(tickets)
def test_in_line_all_that_yield_stand_behind_all_others_each_in_the_order_they_came(wanted):
    runs, yielding = ([one for one in wanted if one.request.yields == which] for which in (False, True))
    assert line_of(wanted).tickets == runs + yielding


@given(tickets)
def test_what_yields_gets_a_row_only_once_nobody_else_wants_one(wanted):
    line, order = line_of(wanted), []
    while (chosen := line.next({}, lambda one: True)) is not None:
        line.grant(chosen)
        order.append(chosen.request.yields)
    assert order == sorted(order)


@given(tickets, st.integers(1, 4))
def test_the_places_of_runs_are_those_they_had_without_the_ones_that_yield(wanted, rows):
    def told(line):
        return [(f.ticket, f.place, f.seconds) for f in line.forecast([], rows) if not f.ticket.request.yields]

    assert told(line_of(wanted)) == told(line_of(one for one in wanted if not one.request.yields))


def test_a_run_takes_the_rows_of_one_that_yields(two):
    suggestion = two.submit(samples=2, max_new_tokens=LONG, yields=True)
    until_written(suggestion, 1)
    run = finished(two.submit(owner="ben", max_new_tokens=5))
    assert [len(sample) for sample in run.samples] == [5]
    assert [sample.finish_reason for sample in finished(suggestion).samples] == ["yielded"] * 2


def test_where_a_row_is_free_nothing_is_taken_from_one_that_yields(two):
    suggestion = two.submit(max_new_tokens=LONG, yields=True)
    until_written(suggestion, 1)
    run = finished(two.submit(owner="ben", max_new_tokens=5))
    assert not suggestion.done
    assert ids_of(run) == two.ids(max_new_tokens=5)
    stop(two, suggestion)


def test_one_that_yields_waits_until_the_runs_are_done(two):
    blockers = [two.submit(max_new_tokens=LONG, owner=owner) for owner in ("ada", "ben")]
    for run in blockers:
        until_written(run, 1)
    suggestion = two.submit(max_new_tokens=5, yields=True)
    late = two.submit(max_new_tokens=5, owner="cleo")
    until(lambda: (late.place, suggestion.place) == (1, 2), what="a place before the suggestion's")
    assert two.engine.outlook.waiting == 1, "nobody is told that a suggestion waits before them"
    stop(two, *blockers)
    finished(late)
    assert [sample.finish_reason for sample in finished(suggestion).samples] == ["length"]


def test_nobody_is_told_that_a_suggestion_is_being_written(two):
    suggestion = two.submit(samples=2, max_new_tokens=LONG, yields=True)
    until_written(suggestion, 1)
    assert two.engine.outlook == Outlook(0, 0, 0.0)
    stop(two, suggestion)


def test_another_model_s_run_takes_the_rows_too(two):
    two.write(model="other", max_new_tokens=1)  # so that it is in memory
    suggestion = two.submit(samples=2, max_new_tokens=LONG, yields=True)
    until_written(suggestion, 1)
    finished(two.submit(model="other", owner="ben", max_new_tokens=5))
    assert [sample.finish_reason for sample in finished(suggestion).samples] == ["yielded"] * 2


def test_three_of_one_prefill_are_what_a_run_of_each_would_be(two):
    with at_once(two):
        suggestion = two.submit(samples=3, first_sample=6, seed=5, max_new_tokens=12, yields=True)
        company = two.submit(owner="ben", seed=2, max_new_tokens=30)
    finished(company)
    alone = [two.ids(seed=5, first_sample=6 + number, max_new_tokens=12)[0] for number in range(3)]
    found = ids_of(finished(suggestion))
    assert found == alone


def test_what_yields_fills_no_line(models):
    with running(models, max_rows=1, max_waiting=2) as one:
        blocker = one.submit(max_new_tokens=LONG)
        until_written(blocker, 1)
        suggestions = [one.submit(max_new_tokens=5, yields=True) for _ in range(2)]
        with pytest.raises(Busy):
            one.submit(max_new_tokens=5, yields=True)
        runs = [one.submit(max_new_tokens=5, owner="ben") for _ in range(2)]
        stop(one, blocker)
        for run in (*runs, *suggestions):
            assert finished(run).samples[0].finish_reason == "length"


def test_a_short_text_that_yields_tells_nothing_of_how_long_runs_become(two):
    before = two.batch().delivery.share_written
    two.batch().delivery.share_written = 0.5
    finished(two.submit(max_new_tokens=5, yields=True))
    assert two.batch().delivery.share_written == 0.5
    two.batch().delivery.share_written = before
