"""Private mode: without the password nothing is shown but where it is asked for; programs bring a key."""

import io
import os
import re

import pytest
from conftest import Visitor
from test_api_keys import BODY, bearer
from workshops import enter

from generate import Refusal, read_settings
from webapp.__main__ import main
from webapp.api.keys import add_key, revoke_key
from webapp.http import private
from webapp.http.visitors import secret_key
from webapp.routes.private import TRIES

PASSWORD = "open sesame"
OPEN = {
    *("private.ask", "private.enter", "static", "npm", "favicon", "health.healthz", "health.readyz", "crawlers.robots")
}


@pytest.fixture
def closed(serve):
    return serve(RUBRIC_PASSWORD=PASSWORD)


@pytest.fixture
def stranger(closed):
    return Visitor(closed.app)


@pytest.fixture
def friend(closed):
    assert enter_with(closed.visitor, PASSWORD).status_code == 303
    return closed.visitor


def enter_with(visitor, password, to="/"):
    return visitor.post("/login", data={"password": password, "to": to})


def everything(app, parts: dict):
    """(rule, method, address) of all that the server answers."""
    for rule in app.url_map.iter_rules():
        values = {name: parts.get(name, "x") for name in rule.arguments}
        address = rule.build(values, append_unknown=False)[1]
        for method in sorted(rule.methods):
            yield rule, method, address


def parts_of(run, sheet) -> dict:
    return {"run_id": run[3:], "first": run[3:], "sheet_id": sheet, "kind": "run", "name": "tiny"}


@pytest.fixture
def parts(closed, friend):
    """What is there to be seen: a run, and a sheet."""
    run = friend.start("the king of xylophones", max_new_tokens=2)
    closed.finish(run)
    return parts_of(run, friend.post("/sheets", json={"key": "k" * 22}).get_json()["id"])


def test_every_address_but_the_login_static_files_and_health_sends_strangers_away(closed, stranger, parts):
    seen = 0
    for rule, method, address in everything(closed.app, parts):
        for accepted in ("text/html", "image/png"):
            answer = stranger.client.open(address, method=method, headers={"Accept": accepted}, buffered=True)
            told = (method, address, accepted, answer.status_code)
            if rule.endpoint in OPEN:
                assert answer.status_code != 303, told
                continue
            if rule.endpoint == "operator.enter":
                assert answer.status_code == 404, told  # a link with its key is the operator's way in
                continue
            if method == "OPTIONS" and rule.endpoint.startswith(("api.", "api_tokens.", "metrics.")):
                assert not answer.data, told
                continue
            seen += 1
            is_led = answer.status_code == 303 and answer.headers["Location"].startswith("/login?to=/")
            assert is_led or answer.status_code == 401, told
            assert "xylophones" not in answer.text, told
    assert seen > 300


def test_with_the_password_all_of_it_is_there_again(closed, friend, parts):
    for rule, method, address in everything(closed.app, parts):
        if method == "GET" and not rule.endpoint.startswith(("api.", "api_tokens.", "metrics.")):
            answer = friend.client.open(address, buffered=not rule.endpoint.endswith("events"))
            assert answer.status_code not in (401, 303) or rule.endpoint == "private.ask", address
            answer.close()
    run = f"/r/{parts['run_id']}"
    for end in ("", ".txt", ".json", ".png", "/embed", "/share"):
        assert friend.get(f"{run}{end}").status_code == 200
    assert "xylophones" in friend.get(run).text


def test_an_address_that_there_is_not_is_not_told_from_one_that_there_is(stranger):
    for path in ("/nowhere", "/r/nothing", "/workshop", "/workshop/written"):
        assert stranger.get(path, headers={"Accept": "text/html"}).status_code == 303
        assert stranger.get(path, headers={"Accept": "application/json"}).status_code == 401


def test_who_gives_the_password_comes_to_what_they_wanted_to_open(closed, stranger, parts):
    run = f"/r/{parts['run_id']}?after=0"
    led = stranger.get(run, headers={"Accept": "text/html"})
    page = stranger.get(led.headers["Location"])
    assert page.status_code == 200
    (to,) = re.findall(r'name="to" value="([^"]*)"', page.text)
    answer = enter_with(stranger, PASSWORD, to)
    assert (answer.status_code, answer.headers["Location"]) == (303, run)
    (cookie,) = (line for line in answer.headers.getlist("Set-Cookie") if line.startswith("rubric="))
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert PASSWORD not in cookie
    assert stranger.get("/login?to=/runs").headers["Location"] == "/runs"


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\t/evil", "", "/a\\b"]
)
def test_nobody_is_led_to_another_site(closed, to):
    answer = enter_with(Visitor(closed.app), PASSWORD, to)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_a_wrong_password_is_said_to_be_wrong(stranger):
    for wrong in ("", PASSWORD[:-1], PASSWORD.upper(), f"{PASSWORD}x", "é" * 300, "\0"):
        answer = enter_with(stranger, wrong)
        assert answer.status_code == 401
        assert "That is not the password." in answer.text
        assert stranger.get("/", headers={"Accept": "application/json"}).status_code == 401


def test_the_password_can_be_tried_only_so_often_from_one_address(closed):
    most = int(TRIES.split()[0])
    answers = [enter_with(Visitor(closed.app), "wrong") for _ in range(most)]
    assert [answer.status_code for answer in answers] == [401] * most
    right = enter_with(Visitor(closed.app), PASSWORD)
    assert right.status_code == 429
    assert "The password was tried many times" in right.text


def test_a_cookie_s_mark_cannot_be_made_without_the_server_s_key_and_is_no_longer_good_with_another_password(
    closed, serve, friend
):
    cookie = friend.client.get_cookie("rubric").value
    for server, is_in in (
        (serve(RUBRIC_PASSWORD=PASSWORD), True),
        (serve(RUBRIC_PASSWORD="another one"), False),
        (serve(RUBRIC_PASSWORD=PASSWORD, SECRET_KEY="another"), False),
    ):
        visitor = Visitor(server.app)
        visitor.client.set_cookie("rubric", cookie)
        assert (visitor.get("/runs", headers={"Accept": "application/json"}).status_code == 200) is is_in
    plain = Visitor(serve(RUBRIC_PASSWORD=PASSWORD).app)
    with plain.client.session_transaction() as session:
        session["inside"] = PASSWORD
    assert plain.get("/runs", headers={"Accept": "application/json"}).status_code == 401


def test_the_operator_needs_none(closed):
    operator = enter(closed.app)
    assert [operator.get(path).status_code for path in ("/", "/workshop", "/runs")] == [200] * 3


def test_programs_bring_a_key_also_from_this_machine(closed, a):
    client = closed.app.test_client()
    assert a.app.test_client().post("/v1/completions", json=BODY).status_code == 200
    for path in ("/v1/models", "/v1/models/tiny", "/tokenizer_info"):
        assert client.get(path).status_code == 401
    answer = client.post("/v1/completions", json=BODY)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_api_key")
    with closed.app.app_context():
        key = add_key("inside")
    assert client.post("/v1/completions", json=BODY, headers=bearer(key)).status_code == 200
    assert client.get("/v1", headers=bearer(key)).status_code == 401, "a key opens the API, and no page"
    with closed.app.app_context():
        revoke_key("inside")


def test_what_the_login_page_needs_is_there_and_nothing_else_of_it_tells_anything(stranger, closed):
    page = stranger.get("/login").text
    for address in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert stranger.get(address).status_code == 200, address
    assert "tiny" not in page
    assert stranger.get("/healthz").status_code == 200
    ready = stranger.get("/readyz").get_json()
    assert set(ready) == {"ready"}
    assert stranger.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"


def test_a_frame_on_another_site_says_where_to_open_it(stranger, parts):
    answer = stranger.get(f"/r/{parts['run_id']}/embed", headers={"Accept": "text/html"})
    assert answer.status_code == 401
    assert "frame-ancestors *" in answer.headers["Content-Security-Policy"]
    assert f'href="/r/{parts["run_id"]}" target="_blank"' in answer.text


@pytest.fixture
def command(serve, shared_database, tmp_path, monkeypatch):
    """A server with an instance folder of its own, for which `rubric password` is called."""
    there = shared_database
    given = {"RUBRIC_INSTANCE": str(tmp_path)}
    given["DATABASE_URL"] = there["DATABASE_URL"] or f"sqlite:///{there['RUBRIC_INSTANCE']}/rubric.sqlite"
    server = serve(**given)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, typed=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        return main(["password", *arguments])

    return server, run


def test_the_command_stores_a_hash_that_counts_from_the_next_request_on(command, capsys):
    server, run = command
    visitor, json = Visitor(server.app), {"Accept": "application/json"}
    assert visitor.get("/runs", headers=json).status_code == 200
    assert run(typed=f"{PASSWORD}\n") == 0
    file = private.file_in(server.app)
    assert PASSWORD not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert visitor.get("/runs", headers=json).status_code == 401
    assert enter_with(visitor, "wrong").status_code == 401
    assert enter_with(visitor, PASSWORD).status_code == 303
    assert visitor.get("/runs", headers=json).status_code == 200
    assert run(typed="another one\n") == 0
    assert visitor.get("/runs", headers=json).status_code == 401
    assert run("--off") == 0
    assert visitor.get("/runs", headers=json).status_code == 200
    assert "Everybody may come in." in capsys.readouterr().out


def test_what_root_stores_belongs_to_the_service_whose_folder_it_is(command, tmp_path, monkeypatch):
    server, run = command
    is_root, given_away = os.geteuid() == 0, []
    if is_root:
        os.chown(tmp_path, 12345, 12346)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("os.fchown", lambda _, *owner: given_away.append(owner))
    assert run(typed=f"{PASSWORD}\n") == 0
    file, folder = private.file_in(server.app).stat(), tmp_path.stat()
    assert (file.st_mode & 0o777, file.st_uid, file.st_gid) == (0o600, folder.st_uid, folder.st_gid)
    assert given_away == ([] if is_root else [(folder.st_uid, folder.st_gid)])
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    part = tmp_path / f"other/.secret_key.{os.getpid()}"
    part.symlink_to(elsewhere)  # as whoever has the folder may put it there
    secret_key(tmp_path / "other")
    assert elsewhere.read_bytes() == b""
    assert elsewhere.stat().st_uid == os.getuid()


def test_by_a_hash_that_the_server_may_not_read_nobody_comes_in_and_the_log_says_why(command, monkeypatch, caplog):
    server, run = command
    assert run(typed=f"{PASSWORD}\n") == 0

    class Shut:
        def read_text(self, _):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(private, "file_in", lambda _: Shut())
    visitor = Visitor(server.app)
    assert visitor.get("/runs", headers={"Accept": "application/json"}).status_code == 401
    assert visitor.get("/login").status_code == 200
    assert enter_with(visitor, PASSWORD).status_code == 401
    assert enter_with(visitor, "").status_code == 401
    assert "password may not be read by the server" in caplog.text


def test_a_password_that_is_too_short_is_refused_without_showing_it(command, capsys):
    server, run = command
    for wrong in ("secret", "x" * 201):
        with pytest.raises(Refusal, match=r"^RUBRIC_PASSWORD: must have from 8 to 200 characters\.$"):
            read_settings({"RUBRIC_PASSWORD": wrong})
        assert run(typed=f"{wrong}\n") == 1
        said = capsys.readouterr().err
        assert "must have from 8 to 200 characters" in said
        assert wrong not in said
    assert run(typed="\n") == 1
    assert not private.file_in(server.app).exists()
