"""A disk that fills up: said before it happens; then what is kept stays, and what is being written is kept once there is room."""

import logging
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from conftest import parse_events
from rounds import copy, go_on, told
from sqlalchemy import event, text

from webapp.runs.tables import db
from webapp.watch.disk import FULL, LOW, NEARLY

PROCEDURE = "BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END"
SAID = "The server’s disk is full, so this cannot be kept. What was kept before is still there."


def cap(connection, *_) -> None:
    """Let SQLite's file have no page more than it has."""
    connection.execute("PRAGMA max_page_count = 1")


def uncap(connection, *_) -> None:
    connection.execute("PRAGMA max_page_count = 1000000000")


@contextmanager
def full(server):
    """The server's database has no room within this, for tokens at least."""
    with server.app.app_context():
        engine = db.engine
        db.session.remove()
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")  # or pages of what was deleted are room
        event.listen(engine, "checkout", cap)
        try:
            yield
        finally:
            event.remove(engine, "checkout", cap)
            event.listen(engine, "checkout", uncap)
        return
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE FUNCTION no_room() RETURNS trigger AS '{PROCEDURE.replace(chr(39), chr(39) * 2)}' LANGUAGE plpgsql"
            )
        )
        for table in ("block", "run"):
            connection.execute(text(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} EXECUTE FUNCTION no_room()"))
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION no_room CASCADE"))


@pytest.fixture
def low(monkeypatch):
    """The disk has less room than it shall have."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=LOW - 1))


def room(page: str) -> str:
    return page.partition('id="room" role="status">')[2].partition("<")[0]


def test_everybody_is_told_at_the_bar_before_it_is_full(a, low):
    assert room(a.visitor.get("/").text) == ""
    a.do("look")
    assert room(a.visitor.get("/").text) == NEARLY
    assert room(a.visitor.get("/busy", headers={"HX-Request": "true"}).text) == NEARLY, (
        "pages that are open learn of it"
    )


def test_there_is_no_word_of_it_while_there_is_room(a):
    a.do("look")
    assert room(a.visitor.get("/").text) == room(a.visitor.get("/busy").text) == ""


def test_what_is_written_while_it_is_full_is_kept_once_there_is_room(a):
    before = a.write(max_new_tokens=20)
    kept = told(a, before)
    run, log, whole = copy(a, a.write(max_new_tokens=400, samples=2))
    go_on(log, whole, 5)
    a.do("save")
    with full(a):
        go_on(log, whole, 1000)
        for _ in range(3):
            a.attempt("save")
        assert a.knows(run), "it is kept in memory"
        a.change(run, lease_until=0)  # which could not be renewed for long
        a.state.takeover.born = 0
        a.entry(run).seen = 0
        a.do("reap", "take_over")
        assert told(a, before) == kept
        assert room(a.visitor.get("/").text) == FULL
    a.do("save")
    assert not a.knows(run)
    assert [sample[0] for sample in told(a, run)] == [s.read()["id"].tolist() for s in whole.samples]
    assert told(a, before) == kept


def test_readers_see_on_what_cannot_be_kept_yet(a):
    run, log, whole = copy(a, a.write(max_new_tokens=60))
    with full(a):
        go_on(log, whole, 1000)
        a.attempt("save")
        events = parse_events(a.visitor.get(f"{run}/events").text)
        assert events[-1]["data"] == "over"
        assert len(a.visitor.json(run)["samples"][0]["tokens"]) == 60
    a.do("save")


def test_who_asks_for_something_that_cannot_be_kept_is_told_so_politely(a):
    a.write(max_new_tokens=5)
    with full(a):
        answer = a.visitor.post("/runs", data={"prompt": "the old king " * 200, "model": "tiny"})
        assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "30")
        assert SAID in answer.text
        assert not a.state.registry.entries(), "nothing is left of it"
        sheet = {"key": "k" * 22, "edits": [[0, 0, "the old king " * 700]]}
        if a.app.config["SETTINGS"]["DATABASE_URL"] == "":
            answer = a.visitor.post("/sheets", json=sheet, headers={"Accept": "application/json"})
            assert (answer.status_code, answer.get_json()["problem"]) == (503, SAID)
        else:  # SQLite finds room for a short one
            body = {"model": "tiny", "prompt": "the", "max_tokens": 1, "store": True}
            answer = a.visitor.post("/v1/completions", json=body, headers={"Host": "127.0.0.1:8000"})
            assert (answer.status_code, answer.get_json()["error"]["message"]) == (503, SAID)
    assert a.visitor.post("/sheets", json=sheet).status_code in (200, 201)


def test_a_failure_that_goes_on_is_logged_now_and_then(a, caplog):
    caplog.set_level(logging.ERROR)
    _, log, whole = copy(a, a.write(max_new_tokens=400))
    with full(a):
        go_on(log, whole, 1000)
        for _ in range(20):
            a.attempt("save")
    assert len([record for record in caplog.records if "save failed" in record.message]) == 1
    a.do("save")
