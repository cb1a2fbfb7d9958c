"""Requests of the API in line: they wait instead of being refused, owners take turns, and pages find room; and what is told
of an engine that can do less."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_engine import EVERYTHING, FakeEngine
from flask_migrate import upgrade
from test_api import Asker
from waiting import until

from generate import RunLog, read_settings
from webapp import create_app
from webapp.api import work as api_work
from webapp.api.places import Places
from webapp.api.work import until_done
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


# Clients who leave

SOON = 0.5  # seconds, within which a client's leaving is noticed, whatever its request waits for


@pytest.mark.parametrize("prompts", [["the"], ["the", "the old king"]])
@pytest.mark.parametrize("before", [0, 1, 3])  # others: then it is written; waits in the engine's line; and before that
def test_between_two_looks_at_a_client_nothing_waits_longer(made, monkeypatch, prompts, before):
    """As far as can be asked without a clock: by how long the work wants to wait."""
    engine = FakeEngine(max_rows=1, max_waiting=2, pace=30)  # seconds for a token
    desk = made(engine, RUBRIC_MAX_ROWS="1", RUBRIC_MAX_WAITING="2").extensions["rubric"].api
    others = [desk.completion({"prompt": "the", "max_tokens": 90}, f"{n}", str)[1].work for n in range(before)]
    work = desk.completion({"prompt": prompts, "max_tokens": 90}, "somebody", str)[1].work
    waited, gaps = [], []
    monkeypatch.setattr(api_work, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(RunLog, "wait", lambda _log, _version, seconds: waited.append(seconds))

    def has_left() -> bool:
        gaps.append(sum(waited))
        waited.clear()
        return len(gaps) == 9

    for _ in until_done(work, has_left):
        assert not work.done
    work.close()
    assert all(0 < gap < SOON for gap in gaps[1:]), gaps
    logs = [part.writing.log for part in work.parts if part.writing.log is not None]
    assert {sample.finish_reason for log in logs for sample in log.samples} <= {"cancelled"}
    for other in others:
        other.close()
    assert engine.outlook.writing == engine.outlook.waiting == 0


# An engine that promises less

LESS = replace(EVERYTHING, resumes_exactly=False, kept_set=False, beyond_window=-1)  # as vLLM, of this


def test_a_prompt_is_scored_as_far_as_the_engine_reads_it_and_no_further(made):
    """Tiny's window has 64 tokens, of which the last is for the one that is written."""
    asker = Asker(made(FakeEngine(LESS)))
    for more in ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 1}):
        for most in (0, 1):
            assert asker.ask(prompt=[5] * 63, max_tokens=most, **more)["choices"]
            for count in (64, 65):
                error = asker.error(prompt=[5] * count, max_tokens=most, **more)
                assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
                assert all(f" {number} " in error["message"].replace(",", " ") for number in (count, 63, 64))
    assert asker.ask(prompt=[5] * 90, max_tokens=1, logprobs=1)["choices"], "what is not scored may be longer"


def test_that_a_seed_promises_nothing_is_said_to_who_gave_one(made):
    asker = Asker(made(FakeEngine(LESS)))
    said = "This server's engine need not write the same text again for the same seed."
    assert asker.ask(prompt="the", seed=3)["warnings"] == [said]
    assert asker.ask(prompt="the", seed=None, first_sample=2)["warnings"] == [said]
    assert asker.stream(prompt="the", seed=3)[0]["warnings"] == [said]
    for nothing in ({"seed": None}, {"temperature": 0}, {"max_tokens": 0}):
        assert "warnings" not in asker.ask(prompt="the", **nothing), nothing


def test_the_page_promises_what_the_engine_keeps(made):
    page = made(FakeEngine(LESS)).test_client().get("/v1").text
    assert "need not write the same text again" in page
    assert "one token fewer than the window (63 with tiny)" in page
    assert "the same text, whoever else is writing" not in page


def test_and_all_of_it_where_it_keeps_all(made):
    app = made(FakeEngine())
    page = app.test_client().get("/v1").text
    assert "The same seed writes the same text, whoever else is writing" in page
    assert "one token more than the window (65 with tiny)" in page
    assert "warnings" not in Asker(app).ask(prompt="the", seed=3)


def test_a_precision_that_is_not_told_is_none_of_the_fingerprint(made, tiny):
    engine = FakeEngine()
    engine.precision = None
    assert Asker(made(engine)).ask(prompt="the")["system_fingerprint"] == tiny.fingerprint()
