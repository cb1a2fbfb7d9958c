"""One press, one run: a form that is sent twice, at once or later, is done once and leads to the same address."""

import io
import re
import threading

import pytest
from conftest import ROOT, Visitor
from flask import request
from sqlalchemy import func, select, update

from webapp.http import once
from webapp.runs import presses
from webapp.runs.tables import Press, Run, db

FORM = {"prompt": "the old king", "model": "tiny", "max_new_tokens": "3", "temperature": "1", "top_k": "0"}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def nonce(request) -> str:
    """One of its own for each test: they share a database."""
    return "nonce-" + re.sub(r"\W", "-", request.node.name)[-50:]


def press(visitor, address, nonce, headers=None, **fields):
    return visitor.post(address, data=fields | {"nonce": nonce}, headers=headers)


def runs(app) -> int:
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(Run))


def test_a_form_that_is_sent_twice_makes_one_run(app, visitor, nonce):
    before = runs(app)
    first, second = (press(visitor, "/runs", nonce, **FORM) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.headers["Location"] == second.headers["Location"]
    assert runs(app) == before + 1


def test_other_files_under_the_same_nonce_are_another_press(app):
    def name(*files: tuple[str, bytes], field="files") -> str:
        given = {"text": "a", field: [(io.BytesIO(body), file) for file, body in files]}
        with app.test_request_context("/workshop/teach", method="POST", data=given):
            request.max_content_length = 10 * once.CHUNK
            found = once.press_name("nonce")
            assert [file.read() for file in request.files.getlist(field)] == [body for _, body in files]
        return found

    large = b"x" * (3 * once.CHUNK)
    given = [
        (("a.txt", b"one"),),
        (("a.txt", b"two"),),
        (("b.txt", b"one"),),
        (("a.txt", large),),
        (("a.txt", large[1:]),),
    ]
    names = [name(), *(name(*files) for files in given), name(*given[0], *given[1]), name(*given[0], field="other")]
    assert len(set(names)) == len(names)
    assert name(*given[0]) == name(*given[0])


def test_without_a_nonce_each_post_makes_a_run(visitor):
    assert visitor.start() != visitor.start()


def test_two_presses_at_the_same_moment_by_one_who_has_no_cookie_yet_make_one_run_that_both_own(app, nonce):
    before, both, answers = runs(app), [Visitor(app), Visitor(app)], []
    ready = threading.Barrier(2)

    def send(visitor):
        ready.wait()
        answers.append(press(visitor, "/runs", nonce, **FORM | {"max_new_tokens": "4096"}))

    threads = [threading.Thread(target=send, args=(visitor,)) for visitor in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run, other = (answer.headers["Location"] for answer in answers)
    assert run == other
    assert runs(app) == before + 1
    assert [visitor.post(f"{run}/stop").status_code for visitor in both] == [303, 303]


def test_a_press_is_one_for_all_servers_that_share_a_database(a, b, nonce):
    first = press(a.visitor, "/runs", nonce, **FORM)
    second = press(b.visitor, "/runs", nonce, **FORM)
    assert first.headers["Location"] == second.headers["Location"]


def test_other_contents_make_another_run_also_where_back_has_brought_the_old_form(visitor, nonce):
    first = press(visitor, "/runs", nonce, **FORM)
    second = press(visitor, "/runs", nonce, **FORM | {"prompt": "the old queen"})
    assert first.headers["Location"] != second.headers["Location"]


def test_what_was_refused_can_be_pressed_again(app, visitor, nonce, monkeypatch, writer):
    assert press(visitor, "/runs", nonce, **FORM | {"top_p": "2"}).status_code == 422
    with monkeypatch.context() as patch:
        patch.setattr(writer.engine, "max_waiting", 0)
        assert press(visitor, "/runs", nonce, **FORM).status_code == 503
    before = runs(app)
    assert press(visitor, "/runs", nonce, **FORM).status_code == 303
    assert runs(app) == before + 1


def test_somebody_else_with_the_same_nonce_gets_a_run_of_their_own(visitor, friend, nonce):
    friend.start()
    theirs, mine = press(visitor, "/runs", nonce, **FORM), press(friend, "/runs", nonce, **FORM)
    assert mine.status_code == 303
    assert mine.headers["Location"] != theirs.headers["Location"]


@pytest.mark.parametrize("given", ["short", "x" * 65, "has spaces in it....", "\0" * 20, "ä" * 20])
def test_what_is_no_nonce_is_refused(visitor, given):
    answer = press(visitor, "/runs", given, **FORM)
    assert answer.status_code == 422
    assert "nonce must be 16 to 64 letters" in answer.text


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("retry", {}),
        ("continue", {"sample": "0"}),
        ("fork", {"sample": "0", "place": "1"}),
        ("pick", {"sample": "1"}),
        ("beside", {"model": "other"}),
        ("shift", {"model": "other"}),
        ("replay", {}),
        ("delete", {}),
    ],
)
def test_every_form_is_done_once(visitor, nonce, what, fields):
    run = visitor.start(max_new_tokens=3, samples=2, temperature=1, top_k=0)
    visitor.finish(run)
    first, second = (press(visitor, f"{run}/{what}", nonce, **fields) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.headers["Location"] == second.headers["Location"]


def test_a_replay_that_htmx_asks_for_twice_is_one(visitor, nonce):
    run = visitor.start(max_new_tokens=3)
    visitor.finish(run)
    first = press(visitor, f"{run}/replay", nonce, HTMX)
    second = press(visitor, f"{run}/replay", nonce, HTMX)
    assert second.status_code == 303
    assert first.headers["Content-Location"] == second.headers["Location"]
    shown = visitor.get(second.headers["Location"], headers=HTMX)
    assert "Writing it again" in shown.text or "Identical" in shown.text


def test_a_second_press_counts_for_no_limit(serve, nonce):
    visitor = serve(RUBRIC_RATE_LIMIT="1 per hour").visitor
    first, second = (press(visitor, "/runs", nonce, **FORM) for _ in range(2))
    assert first.headers["Location"] == second.headers["Location"]
    assert press(visitor, "/runs", nonce + "2", **FORM).status_code == 429


def age(app, seconds, **values) -> None:
    with app.app_context():
        db.session.execute(update(Press).values(created=Press.created - seconds, **values))
        db.session.commit()


def test_a_press_whose_server_died_is_done_by_the_next(a, nonce):
    first = press(a.visitor, "/runs", nonce, **FORM)
    age(a.app, presses.LOST + 1, address=None)
    second = press(a.visitor, "/runs", nonce, **FORM)
    assert second.status_code == 303
    assert first.headers["Location"] != second.headers["Location"]


def test_a_press_that_is_still_worked_on_is_waited_for_and_then_left(a, nonce, monkeypatch):
    press(a.visitor, "/runs", nonce, **FORM)
    age(a.app, 0, address=None)
    monkeypatch.setattr(presses, "PATIENCE", 0.1)
    answer = press(a.visitor, "/runs", nonce, **FORM)
    assert answer.status_code == 503
    assert "still being worked on" in answer.text


def test_presses_are_forgotten_after_a_day(a, nonce):
    press(a.visitor, "/runs", nonce, **FORM)
    age(a.app, presses.KEPT - 10)
    a.do("expire_presses")
    with a.app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Press))
    age(a.app, 20)
    a.do("expire_presses")
    with a.app.app_context():
        assert not db.session.scalar(select(func.count()).select_from(Press))


def test_every_form_that_is_posted_holds_a_nonce():
    """But Stop and a language, which may be pressed as often as one likes, and the password, each time with a cookie of its own."""
    found = []
    for file in (ROOT / "templates").rglob("*.html"):
        for form in re.findall(r"<form.*?</form>", file.read_text(), re.S):
            if ('method="post"' in form or "swap(" in form) and not re.search("/(stop|login|language)'", form):
                found.append(form)
                assert "{{ nonce() }}" in form, f"{file.name}: {form}"
    assert len(found) >= 10


def test_each_page_has_nonces_of_its_own(visitor):
    found = [re.search(r'name="nonce" value="([\w-]{16,64})"', visitor.get("/").text)[1] for _ in range(2)]
    assert len(set(found)) == 2
