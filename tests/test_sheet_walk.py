"""Random work on a sheet in a real browser is what a plain reference says, after every step."""

import pytest
from walk import Walk


def walked(window, steps, seed):
    walk = Walk(window, seed).begin()
    for _ in range(steps):
        walk.step()
    walk.back_and_forth()


def test_a_hundred_random_operations_are_what_a_plain_reference_says(window):
    walked(window, 100, 1)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_five_hundred_random_operations_are_what_a_plain_reference_says(window, seed):
    walked(window, 500, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_a_thousand_random_operations_are_what_a_plain_reference_says(window, seed):
    walked(window, 1000, seed)
