"""Prompts are read in pieces beside the writing, which changes nobody's tokens and halts nobody's text."""

import random

import numpy as np
import pytest
from conftest import finished, make_model
from engines import ids_of, running, stop, until_written
from hypothesis import given
from hypothesis import strategies as st

from generate.scheduling.pace import LEAST_TOKENS, MOST_TOKENS, SLOWER, Pace


@pytest.fixture(scope="module")
def alone(models):
    """An engine that remembers nothing, so that every prompt is read from its beginning."""
    with running(models, "storyteller", prefix_memory=0) as writer:
        yield writer


@pytest.fixture(scope="module")
def crowd(models):
    with running(models, "storyteller", prefix_memory=0, max_rows=12) as writer:
        yield writer


def prompt_of(length, dice) -> list[int]:
    return [dice.randrange(1, 8192) for _ in range(length)]


@pytest.mark.long
def test_prompts_of_any_length_that_join_at_any_moment_change_nobody_s_tokens(alone, crowd, monkeypatch):
    """Random lengths up to the window, read in pieces of random sizes; the seed of all this is fixed."""
    dice = random.Random(4)
    wishes = [
        {
            "ids": prompt_of(length, dice),
            "seed": length,
            "model": "storyteller",
            "max_new_tokens": dice.choice([3, 10, 25]),
            "top_k": dice.choice([0, 40]),
            "samples": dice.choice([1, 1, 1, 2]),
        }
        for length in [1, 2, 7, 8, 9, 63, 64, 65, 255, 500, 511, 512] + [dice.randint(1, 500) for _ in range(6)]
    ]
    expected = [alone.write(**wish) for wish in wishes]
    monkeypatch.setattr(crowd.batch("storyteller").pace, "budget", lambda rows: dice.randint(1, 150))
    base = crowd.submit("The king", "storyteller", max_new_tokens=4096)
    runs = []
    for wish in wishes:
        until_written(base, len(base.samples[0]) + dice.randint(0, 4))
        runs.append(crowd.submit(**wish))
    for run, right in zip(runs, expected, strict=True):
        assert ids_of(finished(run)) == ids_of(right)
        for name in ("logprob", "entropy", "log_z"):
            assert run.prompt[name] == pytest.approx(right.prompt[name], abs=1e-4, nan_ok=True)
        assert np.isfinite(run.prompt["logprob"][1:]).all()
    stop(crowd, base)


@pytest.mark.parametrize("length", [513, 600, 1000, 1024, 1500])
def test_a_prompt_longer_than_one_step_reads_is_read_in_an_idle_engine(long_window, length):
    run = finished(long_window.submit(model="long", ids=prompt_of_300(length), max_new_tokens=3))
    assert run.samples[0].error is None
    assert len(run.samples[0]) == 3


def prompt_of_300(length):
    dice = random.Random(length)
    return [dice.randrange(1, 299) for _ in range(length)]


@pytest.fixture(scope="module")
def long_window(tmp_path_factory):
    """A model with a window of 1024, of which a step reads a half at the most."""
    root = tmp_path_factory.mktemp("long")
    make_model(root / "long", seed=4, n_positions=1024)
    with running(root, "long", prefix_memory=0) as writer:
        yield writer


def test_others_write_on_while_a_long_prompt_is_read(long_window, monkeypatch):
    """Reading 900 tokens, 30 a step, takes 30 steps; the other run writes a token in each."""
    monkeypatch.setattr(long_window.batch("long").pace, "budget", lambda rows: 30)
    other = long_window.submit(model="long", max_new_tokens=4096)
    until_written(other, 3)
    at = len(other.samples[0])
    run = finished(long_window.submit(model="long", ids=prompt_of_300(900), max_new_tokens=1))
    assert run.samples[0].error is None
    assert len(other.samples[0]) - at >= 29
    stop(long_window, other)


def test_a_prompt_that_is_cancelled_while_it_is_read_leaves_nothing_behind(long_window, monkeypatch):
    other = long_window.submit(model="long", max_new_tokens=4096)
    until_written(other, 1)
    budgets = iter([1] * 5)  # of the prompt's thousand tokens; then nothing more is read
    monkeypatch.setattr(long_window.batch("long").pace, "budget", lambda rows: next(budgets, 0))
    run = long_window.submit(model="long", ids=prompt_of_300(1000), max_new_tokens=4096)
    until_written(other, len(other.samples[0]) + 10)
    stop(long_window, run)
    assert run.samples[0].finish_reason == "cancelled"
    assert len(run.samples[0]) == 0
    until_written(other, len(other.samples[0]) + 3)
    assert long_window.batch("long").prefills == []
    stop(long_window, other)


@pytest.mark.parametrize("n_positions", [1, 2, 3, 5])
def test_a_very_small_window_works(tmp_path, n_positions):
    make_model(tmp_path / "small", seed=4, n_positions=n_positions)
    with running(tmp_path, "small") as writer:
        for length in (1, 2, 7):
            one = writer.ids(model="small", ids=prompt_of_300(length), max_new_tokens=9)
            assert writer.ids(model="small", ids=prompt_of_300(length), max_new_tokens=9) == one


# The pace


def pace_of(writing, token, judged=None) -> Pace:
    pace = Pace()
    pace.writing, pace.token, pace.judged = writing, token, judged
    return pace


def test_as_long_as_nobody_writes_the_most_is_read():
    assert Pace().budget(0) == pace_of(1.0, 1.0).budget(0) == MOST_TOKENS


def test_until_it_is_known_how_long_writing_takes_nothing_is_read_beside_it():
    assert Pace().budget(1) == 0
    assert pace_of(None, 0.1).budget(1) == 0


def test_until_it_is_known_how_long_reading_takes_little_is_read():
    assert pace_of(0.1, None).budget(1) == LEAST_TOKENS
    assert pace_of(0.1, 0.0).budget(1) == LEAST_TOKENS


seconds = st.floats(1e-9, 1e3)


@given(seconds, seconds, st.integers(1, 99))
def test_a_step_that_reads_takes_no_longer_than_promised_but_a_few_tokens_are_always_read(writing, token, rows):
    budget = pace_of(writing, token).budget(rows)
    assert LEAST_TOKENS <= budget <= MOST_TOKENS
    assert budget == LEAST_TOKENS or writing + budget * token <= SLOWER * writing * 1.000001


@given(seconds, seconds, st.integers(1, 99))
def test_a_step_that_judges_is_bounded_as_one_that_reads_is(writing, judged, rows):
    assert pace_of(writing, None, judged).may_judge(rows) == pace_of(writing, judged).budget(rows)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 500), st.integers(0, 500)), max_size=30))
def test_whatever_is_measured_the_budgets_stay_within_their_bounds(steps):
    pace = Pace()
    for rows, tokens, judged in steps:
        pace.begin()
        pace.end(rows, tokens, judged)
        for budget in (pace.budget, pace.may_judge):
            assert budget(0) == MOST_TOKENS
            assert budget(3) in (0, *range(LEAST_TOKENS, MOST_TOKENS + 1))
