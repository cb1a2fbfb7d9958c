"""Who may use the API: keys, this machine without one, and pages of other sites with one."""

import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from browser import Server
from conftest import ROOT

from generate import Refusal, read_settings
from webapp import create_app
from webapp.api.keys import add_key, hash_of, list_keys, owner_of, revoke_key
from webapp.api.tables import ApiKey
from webapp.runs.tables import db

BODY = {"model": "tiny", "prompt": "the", "max_tokens": 1, "seed": 1}
ELSEWHERE = {"Host": "rubric.example"}
OTHERS = (("GET", "/v1/models"), ("GET", "/tokenizer_info"), ("POST", "/tokenize"), ("POST", "/detokenize"))


@pytest.fixture
def context(app):
    """Inside the app, with no key left over afterwards."""
    with app.app_context():
        yield
        db.session.query(ApiKey).delete()
        db.session.commit()


@pytest.fixture
def key(context) -> str:
    return add_key("somebody")


@pytest.fixture
def client(app):
    return app.test_client()


def ask(client, headers=(), **more):
    return client.post("/v1/completions", json=BODY | more, headers=dict(headers), buffered=True)


def bearer(key: str) -> dict:
    return {"Authorization": f"Bearer {key}"}


def test_this_machine_needs_no_key(client):
    for host in ("localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000", "LOCALHOST."):
        assert ask(client, {"Host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rubric.example"},
        {"Host": "192.168.1.5:8000"},
        {"Host": "localhost.example"},
        {"Host": "127.0.0.1.nip.io"},
        {"Host": "0.0.0.0:8000"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Anything": ""},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "file://"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_everybody_else_needs_one(client, headers):
    answer = ask(client, headers)
    assert answer.status_code == 401
    error = answer.get_json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json", "", "multipart/form-data"]
)
def test_a_page_of_another_site_needs_one_whatever_type_its_body_is_said_to_have(client, kind):
    import json

    answer = client.post(
        "/v1/completions", data=json.dumps(BODY), headers={"Origin": "http://evil.example", "Content-Type": kind}
    )
    assert answer.status_code == 401


def test_a_server_that_others_can_reach_asks_everybody_for_a_key(app, writer, tmp_path):
    settings = app.config["SETTINGS"] | {"HOST": "0.0.0.0", "RUBRIC_INSTANCE": str(tmp_path), "DATABASE_URL": ""}
    from flask_migrate import upgrade

    open_to_all = create_app(settings, writer.engine)
    with open_to_all.app_context():
        upgrade()
        db.engine.dispose()
    assert ask(open_to_all.test_client()).status_code == 401


@pytest.mark.parametrize(
    "connection",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"REMOTE_ADDR": "10.0.0.7", "SERVER_NAME": "0.0.0.0"},
        {"REMOTE_ADDR": "2001:db8::1", "SERVER_NAME": "::"},
        {"SERVER_NAME": "0.0.0.0"},
        {"SERVER_NAME": "::"},
        {"SERVER_NAME": "192.168.1.5"},
        {"REMOTE_ADDR": ""},  # of a socket in the file system, which a proxy asks
    ],
)
def test_so_does_one_that_listens_elsewhere_than_its_setting_says(client, connection):
    """gunicorn's own -b goes before HOST. The client names this machine, as anybody can."""
    wish = {"json": BODY, "headers": {"Host": "localhost"}, "environ_overrides": connection, "buffered": True}
    assert client.post("/v1/completions", **wish).status_code == 401
    assert "RUBRIC_KEY" in client.get("/v1", environ_overrides=connection, headers={"Host": "localhost"}).text


@pytest.mark.long
def test_a_gunicorn_that_was_bound_to_all_addresses_asks_for_a_key(tmp_path, models):
    server = Server(tmp_path, RUBRIC_MODELS=str(models), RUBRIC_MODEL="tiny")
    config = str(ROOT / "gunicorn.conf.py")
    server.start("-m", "gunicorn", "--config", config, "--bind", f"0.0.0.0:{server.port}")
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/v1/models")
        assert refused.value.code == 401
    finally:
        server.stop()


def test_our_own_page_needs_none(client):
    assert ask(client, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_key_opens_it_to_anybody(client, key):
    for headers in (
        ELSEWHERE,
        {"X-Forwarded-For": "1.2.3.4"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
    ):
        assert ask(client, {**bearer(key), **headers}).status_code == 200, headers


def test_the_lists_and_the_tokenizer_ask_for_it_too(client, key):
    for method, path in OTHERS:
        wish = {"method": method, "json": {"prompt": "the", "tokens": [5]}} if method == "POST" else {"method": method}
        assert client.open(path, headers=ELSEWHERE, **wish).status_code == 401, path
        assert client.open(path, headers={**ELSEWHERE, **bearer(key)}, **wish).status_code == 200, path


def test_a_key_that_nobody_knows_is_no_key(client, key):
    for wrong in ("nonsense", key[:-1], key + "x", key.upper(), "", "ключ"):
        assert (
            ask(client, {**ELSEWHERE, "Authorization": f"Bearer {wrong}".encode().decode("latin-1")}).status_code == 401
        )
    assert ask(client, {**ELSEWHERE, "Authorization": f"Basic {key}"}).status_code == 401
    assert ask(client, bearer("sk-whatever")).status_code == 200  # at home clients must often send something


def test_a_key_that_was_taken_back_is_good_no_longer(client, key):
    revoke_key("somebody")
    assert ask(client, {**ELSEWHERE, **bearer(key)}).status_code == 401


def test_a_key_is_kept_as_its_hash_alone(context, key):
    (row,) = list_keys()
    assert row.hash == hash_of(key)
    assert key not in str([getattr(row, column.name) for column in ApiKey.__table__.columns])


def test_two_keys_have_two_owners_and_two_names(context, key):
    other = add_key("else")
    assert owner_of(key) != owner_of(other)
    with pytest.raises(Refusal, match="already"):
        add_key("somebody")
    for name in ("", "two words", "x" * 61, "a/b", "ü"):
        with pytest.raises(Refusal, match="name"):
            add_key(name)
    with pytest.raises(Refusal, match="no key"):
        revoke_key("nobody")


def test_a_page_of_another_site_may_ask_whether_it_may_ask_with_a_key(client):
    wish = {"Origin": "null", "Access-Control-Request-Method": "POST"}
    answer = client.options(
        "/v1/completions", headers={**wish, "Access-Control-Request-Headers": "authorization,content-type"}
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "null"
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
    without = client.options("/v1/completions", headers={**wish, "Access-Control-Request-Headers": "content-type"})
    assert "Access-Control-Allow-Origin" not in without.headers


def test_it_may_read_the_answer_to_a_request_with_a_key_and_no_other(client, key):
    origin = {"Origin": "http://elsewhere.example"}
    answer = ask(client, {**bearer(key), **origin})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://elsewhere.example"
    assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert ask(client, {**bearer("wrong"), **origin}).status_code == 401  # and may learn that
    assert "Access-Control-Allow-Origin" not in ask(client, {"Host": "localhost"}).headers


@pytest.mark.parametrize("path", ["/runs", "/s", "/"])
def test_the_page_s_own_addresses_stay_closed_to_other_sites(client, key, path):
    answer = client.post(path, data={"prompt": "the"}, headers={**bearer(key), "Origin": "http://elsewhere.example"})
    assert answer.status_code in (403, 405)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_65th_request_is_told_when_to_come_back_whatever_it_asks(app, client):
    slots = app.extensions["rubric"].api.slots
    taken = [slots.take() for _ in range(slots.most)]
    try:
        for method, path in (("POST", "/v1/completions"), *OTHERS, ("GET", "/v1/models/tiny"), ("GET", "/v1/nowhere")):
            answer = client.open(path, method=method, json=BODY | {"tokens": [5]} if method == "POST" else None)
            assert (path, answer.status_code) == (path, 503)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.get_json()["error"]["code"] == "busy"
        for page in ("/", "/v1", "/v1/openapi.json", "/readyz"):
            assert client.get(page).status_code == 200, page
        assert ask(client, ELSEWHERE).status_code == 401, "who may not ask at all is told that"
        assert client.options("/v1/completions", headers={"Origin": "null"}).status_code == 204
    finally:
        for _ in taken:
            slots.give_back()
    for method, path in OTHERS:
        assert client.open(path, method=method, json=BODY | {"tokens": [5]} if method == "POST" else None).is_json
    assert ask(client).status_code == 200
    assert slots.taken == 0


@pytest.mark.parametrize(
    "wish", [{}, {"stream": True}, {"temperature": "x"}, {"n": 0, "stream": True}, {"model": "nobody"}]
)
def test_a_place_is_given_back_however_a_request_ends(app, client, wish):
    ask(client, **wish)
    assert app.extensions["rubric"].api.slots.taken == 0


@pytest.mark.long
def test_keys_are_made_listed_and_taken_back_at_the_terminal(tmp_path):
    import os

    environment = {**os.environ, "RUBRIC_INSTANCE": str(tmp_path), "DATABASE_URL": ""}

    def run(*words, module="webapp"):
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert "database is empty" in run("keys", "list").stderr
    assert run("--app", "webapp", "db", "upgrade", module="flask").returncode == 0
    made = run("keys", "add", "ada")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("rubric-")
    assert "ada" in run("keys", "list").stdout
    assert made.stdout.strip() not in run("keys", "list").stdout
    again = run("keys", "add", "ada")
    assert (again.returncode, "already" in again.stderr, "Traceback" in again.stderr) == (1, True, False)
    assert run("keys", "revoke", "ada").returncode == 0
    assert run("keys", "list").stdout == ""
    assert run("keys", "revoke", "ada").returncode == 1


def test_the_default_setting_listens_on_loopback():
    assert read_settings({})["HOST"] == "127.0.0.1"
