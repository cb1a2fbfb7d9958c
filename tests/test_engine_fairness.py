"""Rows are shared between visitors while more than one wants them, and everybody who waits knows where he stands."""

import itertools

import pytest
from conftest import finished
from engines import at_once, ids_of, owners, running, stop, until_at_rest, until_written, watch
from waiting import until

from generate import Outlook

LONG = 4096


@pytest.fixture(scope="module")
def two(models):
    """A writer with two rows."""
    with running(models, max_rows=2) as writer:
        yield writer


@pytest.fixture(scope="module")
def four(models):
    with running(models, max_rows=4) as writer:
        yield writer


@pytest.fixture
def seen(two, four):
    """How many rows each owner held before each step of either engine."""
    history = []
    for writer in (two, four):
        watch(writer.batch(), lambda batch: history.append(owners(batch)))
    yield history
    for writer in (two, four):
        del writer.batch().step


def beginnings(writer, runs) -> list:
    """Watch in which order runs begin; the list grows as they do."""
    order = []

    def look(batch):
        for sequence in batch.admitted():
            if sequence.run in runs and sequence.run not in order:
                order.append(sequence.run)

    watch(writer.batch(), look)
    return order


def test_two_visitors_with_five_runs_each_hold_a_row_each_until_one_has_no_more(two, seen):
    with at_once(two):
        runs = [two.submit(owner=owner, max_new_tokens=6) for owner in ["ada"] * 5 + ["ben"] * 5]
    for run in runs:
        finished(run)
    full = [held for held in seen if held.total() == 2]
    assert all(held == {"ada": 1, "ben": 1} for held in full)
    assert full


def test_eight_samples_each_share_four_rows_two_and_two(four, seen):
    with at_once(four):
        runs = [four.submit(owner=owner, samples=8, max_new_tokens=6) for owner in ("ada", "ben")]
    for run in runs:
        finished(run)
    full = [held for held in seen if held.total() == 4]
    assert full
    assert all(held == {"ada": 2, "ben": 2} for held in full)


def test_eight_samples_that_wrote_in_turns_are_what_they_are_alone(four):
    with at_once(four):
        turns = [four.submit(owner=owner, samples=8, max_new_tokens=9, seed=3) for owner in ("ada", "ben")]
    alone = [four.ids(first_sample=number, max_new_tokens=9, seed=3)[0] for number in range(8)]
    assert [ids_of(finished(run)) for run in turns] == [alone, alone]


def test_who_comes_late_gets_the_next_row(two):
    runs = []

    def come_late(batch):
        if len(runs) == 4 and len(runs[0].samples[0]) >= 2:
            runs.append(two.submit(owner="ben", max_new_tokens=20))

    watch(two.batch(), come_late)
    begun = beginnings(two, runs)
    with at_once(two):
        runs += [two.submit(owner="ada", max_new_tokens=20) for _ in range(4)]
    for run in runs[:4]:
        finished(run)
    del two.batch().step
    late = finished(runs[4])
    assert begun.index(late) < begun.index(runs[3])


def test_places_are_told_in_the_order_in_which_runs_then_begin(two):
    with at_once(two):
        blockers = [two.submit(owner=owner, max_new_tokens=LONG) for owner in ("ada", "ben")]
        runs = [two.submit(owner=owner, max_new_tokens=5) for owner in ["ada"] * 3 + ["cleo"] * 2 + ["ben"]]
    # cleo holds nothing, so she is first; ada's row and ben's end in turn after that
    until(lambda: sorted(run.place for run in runs) == [1, 2, 3, 4, 5, 6] and runs[3].place == 1, what="places")
    told = sorted(runs, key=lambda run: run.place)
    assert all(run.state == "waiting" and run.seconds is not None for run in told)
    for before, after in itertools.pairwise(run.seconds for run in told):
        assert before < after + 1, "by less than a second nobody is told anew"
    assert [run for run in told if run in runs[:3]] == runs[:3]
    begun = beginnings(two, runs)
    stop(two, *blockers)
    for run in runs:
        finished(run)
    del two.batch().step
    assert begun[0] is runs[3]
    assert set(begun) == set(runs)


def test_a_cancelled_run_leaves_the_line_and_those_behind_it_move_up(two):
    blockers = [two.submit(owner="ada", max_new_tokens=LONG) for _ in range(2)]
    for run in blockers:
        until_written(run, 1)
    first, second, third = (two.submit(owner="ben") for _ in range(3))
    until(lambda: (first.place, second.place, third.place) == (1, 2, 3), what="places")
    two.engine.cancel(second)
    assert [s.finish_reason for s in finished(second).samples] == ["cancelled"]
    until(lambda: (first.place, third.place) == (1, 2), what="a better place")
    stop(two, *blockers, first)
    assert finished(third).samples[0].finish_reason == "length"


def test_cancelling_a_run_of_eight_samples_ends_those_that_write_and_those_that_wait(two):
    run = two.submit(samples=8, max_new_tokens=LONG)
    until(lambda: sum(len(sample) > 2 for sample in run.samples) == 2, what="two samples writing")
    stop(two, run)
    assert [sample.finish_reason for sample in run.samples] == ["cancelled"] * 8
    until_at_rest(two)


def test_cancelling_a_run_ends_it_also_while_another_model_has_all_rows(models):
    """Of a run's two samples one has ended and the other waits for the row, which a visitor of `other` got."""
    with running(models, max_rows=1) as one:
        one.write(model="other", max_new_tokens=1)  # so that it is in memory
        with at_once(one):
            run = one.submit(samples=2, max_new_tokens=5, owner="ada")
            blocker = one.submit(model="other", max_new_tokens=LONG, owner="ben")
        until_written(blocker, 1)
        assert [sample.finish_reason for sample in run.samples] == ["length", None]
        one.engine.cancel(run)
        until(lambda: run.done, what="the end of a cancelled run")
        assert not blocker.done
        assert run.samples[1].finish_reason == "cancelled"
        stop(one, blocker)


def test_whoever_sends_run_after_run_does_not_starve_another(models):
    """Ben has a run in line at all times, one by one; Ada sent five at once. There is one row: they take turns."""
    with running(models, max_rows=1) as one:
        with at_once(one):
            ada = [one.submit(owner="ada", max_new_tokens=30) for _ in range(5)]
            ben = [one.submit(owner="ben", max_new_tokens=30)]
        begun = []

        def look(batch):
            for sequence in batch.admitted():
                if sequence.run not in begun:
                    begun.append(sequence.run)
                    if sequence.request.owner == "ben" and len(ben) < 5:
                        ben.append(one.submit(owner="ben", max_new_tokens=30))

        watch(one.batch(), look)
        for run in ada:
            finished(run)
        until(lambda: len(ben) == 5 and all(run.done for run in ben), what="ben's five runs")
        assert ["ada" if run in ada else "ben" for run in begun[:8]] in (["ada", "ben"] * 4, ["ben", "ada"] * 4)


def test_a_run_whose_model_is_loaded_but_has_no_row_is_told_its_place(models):
    with running(models, max_rows=1) as one:
        blocker = one.submit(max_new_tokens=LONG, owner="ada")
        until_written(blocker, 1)
        run = one.submit(model="other", max_new_tokens=3, owner="ben")
        until(lambda: "other" in one.engine.loaded, what="a second model")
        until(lambda: run.state == "waiting" and run.place == 1, what="its place after loading")
        stop(one, blocker)
        finished(run)


def test_an_engine_with_free_rows_lets_nobody_wait(four):
    runs = [four.submit(owner="ada", max_new_tokens=40) for _ in range(4)]
    until(lambda: all(run.state in ("writing", "done") for run in runs), what="four running")
    stop(four, *runs)


def test_the_engine_tells_how_busy_it_is(models):
    with running(models, "slow", max_rows=2) as writer:
        assert writer.engine.outlook == Outlook(0, 0, 0.0)
        runs = [writer.submit(model="slow", max_new_tokens=400, owner=str(n)) for n in range(5)]
        until(lambda: (writer.engine.outlook.writing, writer.engine.outlook.waiting) == (2, 3))
        assert writer.engine.outlook.seconds > 0
        stop(writer, *runs)
        until(lambda: writer.engine.outlook == Outlook(0, 0, 0.0))
        writer.write(model="slow", max_new_tokens=40)  # nothing wakes the engine after a run that ends by itself
        until(lambda: writer.engine.outlook == Outlook(0, 0, 0.0))
