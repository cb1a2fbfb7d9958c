"""The operator's link works once and becomes a cookie; for everybody else the workshop is not there."""

import os
import threading
import time
from pathlib import Path

import pytest
from workshops import enter

from webapp.__main__ import main
from webapp.http.operator import COOKIE, LINK_STAYS, STAYS, Keys, link_for

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def new_key(app) -> str:
    return app.extensions["operator"].new_link_key()


def test_a_link_becomes_a_strict_cookie_and_leads_on_without_its_key(app, visitor):
    answer = visitor.get("/operator", query_string={"key": new_key(app)})
    assert answer.status_code == 200  # a redirection from another site's page would be followed without a Strict cookie
    assert '<meta http-equiv="refresh" content="0; url=/workshop">' in answer.text
    assert '<a class="button" href="/workshop">' in answer.text
    (cookie,) = (line for line in answer.headers.getlist("Set-Cookie") if line.startswith(COOKIE))
    assert {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={STAYS}"} <= set(cookie.split("; "))
    assert answer.headers["Cache-Control"] == "no-store"
    page = visitor.get("/workshop")
    assert page.status_code == 200
    assert '<a href="/workshop">Workshop</a>' in visitor.get("/").text


def test_a_link_works_once(app, visitor, friend):
    key = new_key(app)
    assert visitor.get("/operator", query_string={"key": key}).status_code == 200
    assert friend.get("/operator", query_string={"key": key}).status_code == 404
    assert friend.get("/workshop").status_code == 404


def test_a_link_that_nobody_opened_for_a_day_is_good_no_longer(tmp_path):
    keys = Keys(tmp_path)
    for age, is_good in ((LINK_STAYS - 60, True), (LINK_STAYS + 60, False)):
        key = keys.new_link_key()
        (link,) = (tmp_path / "operator").glob("link-*")
        os.utime(link, (time.time() - age,) * 2)
        assert (keys.exchange(key) is not None) == is_good
        assert not list((tmp_path / "operator").glob("link-*"))


def test_of_two_who_open_a_link_at_the_same_moment_one_gets_in(tmp_path):
    keys, found = Keys(tmp_path), []
    key, both = keys.new_link_key(), threading.Barrier(8)

    def take():
        both.wait()
        found.append(keys.exchange(key))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(secret is not None for secret in found) == 1


def test_a_new_link_takes_the_place_of_one_that_nobody_opened(app, visitor):
    old, new = new_key(app), new_key(app)
    assert visitor.get("/operator", query_string={"key": old}).status_code == 404
    assert visitor.get("/operator", query_string={"key": new}).status_code == 200


def test_whoever_only_asks_for_a_link_s_head_does_not_use_it_up(app, visitor):
    key = new_key(app)
    assert visitor.client.head("/operator", query_string={"key": key}).status_code == 404
    assert visitor.get("/operator", query_string={"key": key}).status_code == 200


def test_only_hashes_are_kept(app):
    keys = app.extensions["operator"]
    key = keys.new_link_key()
    secret = keys.exchange(key)
    pending = keys.new_link_key()
    for file in Path(app.instance_path, "operator").iterdir():
        assert file.stat().st_size == 0
        assert file.stat().st_mode & 0o077 == 0
        assert not any(word in file.name for word in (key, secret, pending))


def test_a_cookie_s_file_name_is_no_cookie(app, visitor):
    enter(app)
    for file in Path(app.instance_path, "operator").iterdir():
        for guess in (file.name, file.name.removeprefix("cookie-"), f"../operator/{file.name}"):
            visitor.client.set_cookie(COOKIE, guess)
            assert visitor.get("/workshop").status_code == 404


def test_who_leaves_is_a_visitor_again_also_with_a_copy_of_the_cookie(app, friend):
    operator = enter(app)
    friend.client.set_cookie(COOKIE, operator.client.get_cookie(COOKIE).value)
    assert friend.get("/workshop").status_code == 200
    assert operator.post("/workshop/leave").status_code == 303
    assert operator.get("/workshop").status_code == friend.get("/workshop").status_code == 404


def test_another_link_is_printed_at_the_terminal(app, visitor, monkeypatch, capsys):
    settings = app.config["SETTINGS"]
    monkeypatch.setenv("RUBRIC_INSTANCE", settings["RUBRIC_INSTANCE"])
    monkeypatch.setenv("DATABASE_URL", settings["DATABASE_URL"])
    assert main(["operator-link"]) == 0
    link = capsys.readouterr().out.strip()
    assert link.startswith("http://127.0.0.1:8000/operator?key=")
    assert visitor.get(link.removeprefix("http://127.0.0.1:8000")).status_code == 200


def test_a_link_names_the_address_that_the_server_has(app):
    with app.app_context():
        given = app.config["SETTINGS"]
        assert link_for("k", given | {"PUBLIC_URL": "https://a.example/r"}) == "https://a.example/r/operator?key=k"
        assert link_for("k", given | {"HOST": "::1", "PORT": 9000}) == "http://[::1]:9000/operator?key=k"
        assert link_for("k", given | {"HOST": "0.0.0.0", "PORT": 9000}) == "http://127.0.0.1:9000/operator?key=k"


def addresses(app) -> list[str]:
    """Every address of the workshop, with something for each of its parts, and some that no rule has."""
    found = {
        rule.build(dict.fromkeys(rule.arguments, "x"), append_unknown=False)[1]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/workshop") or rule.endpoint.split(".")[0] in ("operator", "workshop")
    }
    return sorted(found | {"/workshop/", "/workshop/none", "/workshop//jobs", "/operator/x", "/operator"})


@pytest.mark.parametrize("method", METHODS)
def test_for_a_stranger_nothing_of_the_workshop_is_there(app, visitor, method):
    visitor.finish(visitor.start(max_new_tokens=1))  # whose run gave it a cookie
    guesses = [{}, {"key": "guess"}, {"key": ""}, {"key": "../cookie-x"}]
    for address in addresses(app):
        for cookie in (None, "guess", visitor.client.get_cookie("rubric").value):
            if cookie is not None:
                visitor.client.set_cookie(COOKIE, cookie)
            for guess in guesses:
                answer = visitor.client.open(address, method=method, query_string=guess, buffered=True)
                assert answer.status_code in (403, 404), (method, address, answer.status_code)
                assert "Allow" not in answer.headers
        visitor.client.delete_cookie(COOKIE)


def test_an_address_that_would_be_redirected_to_the_workshop_is_not_there_either(visitor):
    for path in ("//workshop", "///operator"):
        assert visitor.get("/", environ_overrides={"PATH_INFO": path}).status_code == 404


def test_every_page_of_the_operator_s_lies_where_strangers_find_nothing(app):
    assert all(
        rule.rule.startswith("/workshop") or rule.rule == "/operator"
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in ("operator", "workshop")
    )


def test_a_form_that_another_site_sent_is_refused_also_with_the_cookie(app):
    operator = enter(app)
    answer = operator.post("/workshop/leave", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert operator.get("/workshop").status_code == 200
