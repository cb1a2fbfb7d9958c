"""Requests of the API in line: they wait instead of being refused, owners take turns, and pages find room."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fake_engine import EVERYTHING, FakeEngine
from flask_migrate import upgrade
from test_api import Asker
from waiting import until

from generate import read_settings
from webapp import create_app
from webapp.api.places import Places
from webapp.runs.tables import db


@pytest.fixture
def made(models, tmp_path):
    """Makes an app over a fake engine."""
    apps = []

    def make(engine: FakeEngine, **settings):
        wanted = {"RUBRIC_MODELS": str(models), "RUBRIC_MODEL": "tiny", "RUBRIC_INSTANCE": str(tmp_path / "instance")}
        app = create_app(read_settings(wanted | settings), engine)
        with app.app_context():
            upgrade()
        app.extensions["rubric"].start()
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["rubric"].close()
        with app.app_context():
            db.engine.dispose()


# Whose turn it is


def test_a_free_place_goes_to_the_owner_who_holds_the_fewest():
    places = Places(3)
    first = [places.ask("many") for _ in range(5)]
    late = [places.ask("one")]
    assert [place.held for place in first] == [True, True, True, False, False]
    assert not late[0].held
    places.give_back(first[0])
    assert late[0].held
    assert not first[3].held
    places.give_back(first[1])
    assert first[3].held


def test_of_equals_whoever_waits_longest_is_next():
    places = Places(1)
    held, *waiting = [places.ask(name) for name in "abcd"]
    for place in waiting:
        places.give_back(held)
        assert place.held
        held = place


def test_whoever_leaves_while_waiting_holds_nothing():
    places = Places(1)
    held, gone, last = (places.ask(name) for name in "abc")
    places.give_back(gone)
    places.give_back(held)
    places.give_back(held)
    assert (held.held, gone.held, last.held) == (False, False, True)


# In line


def test_more_requests_than_the_line_holds_are_all_answered(made):
    app = made(
        FakeEngine(max_rows=1, max_waiting=2),
        RUBRIC_MAX_ROWS="1",
        RUBRIC_MAX_WAITING="2",
        RUBRIC_RATE_LIMIT="1 per hour",
    )
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda seed: Asker(app).post(prompt="the", max_tokens=5, seed=seed), range(24)))
    assert {answer.status_code for answer in answers} == {200}


def test_a_request_of_many_prompts_goes_through_a_short_line(made):
    app = made(FakeEngine(max_rows=1, max_waiting=2), RUBRIC_MAX_ROWS="1", RUBRIC_MAX_WAITING="2")
    answer = Asker(app).ask(prompt=[f"the {number}" for number in range(20)], max_tokens=3)
    assert [choice["index"] for choice in answer["choices"]] == list(range(20))


@pytest.mark.long
def test_half_of_the_line_stays_free_for_pages(made):
    engine = FakeEngine(max_rows=2, max_waiting=10, pace=0.01)
    app = made(engine, RUBRIC_MAX_ROWS="2", RUBRIC_MAX_WAITING="10")
    with ThreadPoolExecutor(20) as clients:
        asked = [clients.submit(Asker(app).post, prompt="the", max_tokens=60) for _ in range(20)]
        until(lambda: engine.outlook.waiting == 5, what="a line half full")
        assert not engine.outlook.full
        assert app.test_client().get("/healthz").status_code == 200
        assert all(one.result().status_code == 200 for one in asked)


# What goes wrong


def test_a_run_that_is_ended_by_others_is_an_error_within_the_stream(made):
    app = made(FakeEngine(pace=0.01))
    body = {"model": "tiny", "prompt": "the", "max_tokens": 4000, "store": True, "stream": True}
    answer = app.test_client().post("/v1/completions", json=body)
    parts = answer.iter_encoded()
    first = next(parts).decode()
    run = first.split('"url": "')[1].split('"')[0].rpartition("/")[2]
    app.extensions["rubric"].service.cancel(run)
    rest = first + b"".join(parts).decode()
    *_, error, done, nothing = rest.split("\n\n")
    assert error.startswith('data: {"error": {"message": "The run was stopped')
    assert (done, nothing) == ("data: [DONE]", "")
    answer.close()
    assert app.extensions["rubric"].api.slots.taken == 0


def test_an_engine_that_is_gone_is_a_503(made):
    engine = FakeEngine()
    app = made(engine)
    engine.close()
    error = Asker(app).error(503, prompt="the")
    assert error["type"] == "server_error"


def test_an_engine_that_cannot_score_a_prompt_says_so(made):
    app = made(FakeEngine(replace(EVERYTHING, scores_prompt=False)))
    assert Asker(app).error(prompt="the", echo=True, logprobs=1, max_tokens=1)["param"] == "echo"
    assert Asker(app).error(prompt="the", prompt_logprobs=1)["param"] == "prompt_logprobs"
    assert Asker(app).ask(prompt="the", logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]
