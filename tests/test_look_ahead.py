"""On a GPU a step begins before the last one's tokens are handed out. The order of things, tried on a CPU."""

import random

import pytest
from conftest import DEVICE, Writer, finished, started
from engines import until_written

from generate import LocalEngine


@pytest.fixture(scope="module")
def ahead(models) -> Writer:
    engine = started(LocalEngine(models, device=DEVICE, precision="float32", max_rows=6).start("tiny"))
    writer = Writer(engine)
    writer.batch().look_ahead = True
    yield writer
    engine.close()


def test_looking_ahead_changes_no_token(plain, ahead):
    """Rows join, end at stop strings, fill their window, and leave while a step is under way."""
    dice = random.Random(3)
    wishes = [
        {
            "text": "the old king said " * dice.randint(1, 12),
            "seed": dice.randrange(99),
            "samples": dice.choice([1, 1, 5]),
            "max_new_tokens": dice.choice([1, 2, 3, 30, 90]),
            "stop": dice.choice([[], ["a"], ["the"]]),
            "repetition_penalty": dice.choice([1, 1.3]),
        }
        for _ in range(40)
    ]
    expected = [finished(run) for run in [plain.submit(**wish) for wish in wishes]]
    found = [finished(run) for run in [ahead.submit(**wish) for wish in wishes]]
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one.samples, other.samples, strict=True):
            assert a.read()["id"].tolist() == b.read()["id"].tolist()
            assert (a.finish_reason, a.text_end, a.released) == (b.finish_reason, b.text_end, b.released)


def test_a_run_that_is_stopped_meanwhile_keeps_what_it_was_told(ahead):
    other = ahead.submit(max_new_tokens=200, seed=5)
    run = ahead.submit(max_new_tokens=4096)
    until_written(run, 10)
    ahead.engine.cancel(run)
    assert finished(run).samples[0].finish_reason == "cancelled"
    alone = ahead.ids(max_new_tokens=200, seed=5)[0]
    assert finished(other).samples[0].read()["id"].tolist() == alone
