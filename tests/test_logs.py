"""What is logged is a line each, and holds nothing that anybody wrote, nor where they are."""

import json
import logging
import urllib.request

import pytest
from browser import get, serving, start_run
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import SocketUnreader
from sqlalchemy.exc import IntegrityError, OperationalError
from waiting import until

from generate import Refusal
from webapp.watch.logs import Json, Plain, config

TEXT = "wistful hedgehogs of Szczecin"


def record(message: str, *values, name="webapp.runs.recorder", error=None, **extra) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, values, info)
    made.__dict__.update(extra)
    return made


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except type(error) as found:
        return found


QUOTING = [
    ValueError(TEXT),
    KeyError(TEXT),
    UnicodeEncodeError("ascii", TEXT, 0, 1, TEXT),
    Refusal("{text!r} is not a number.", text=TEXT),
    IntegrityError("INSERT INTO run VALUES (?)", (TEXT,), ValueError("UNIQUE constraint failed: run.id")),
    OperationalError("SELECT ?", {"prompt": TEXT}, ValueError(f'invalid input: "{TEXT}"\nDETAIL: {TEXT}')),
    OperationalError("SELECT ?", {"prompt": TEXT}, ValueError(f'invalid input: "a "{TEXT}" b"')),
    OperationalError("SELECT ?", {"prompt": TEXT}, ValueError(f'invalid input: "a "{TEXT}\n"')),
    NoMoreData(TEXT.encode()),
]


@pytest.mark.parametrize("form", [Plain, Json])
@pytest.mark.parametrize("error", QUOTING, ids=lambda error: type(error).__name__)
def test_an_exception_is_told_in_one_line_without_what_it_quotes(form, error):
    for found in (raised(error), raised(RuntimeError("it broke"), raised(error))):
        line = form().format(record("saving failed", error=found))
        assert len(line.splitlines()) == 1
        assert type(error).__name__ in line
        assert "tests/test_logs.py:" in line
        assert not any(word in line for word in TEXT.split() if len(word) > 2)


def test_what_a_system_or_a_database_says_is_told():
    full = OperationalError("INSERT", (TEXT,), ValueError("database or disk is full"))
    assert "database or disk is full" in Plain().format(record("saving failed", error=raised(full)))
    assert "No space left" in Plain().format(record("x", error=raised(OSError(28, "No space left on device"))))


SENT = {
    f"GET /?prompt={TEXT} HTTP/1.1\r\n\r\n": "InvalidHTTPVersion",
    f"GET /?prompt=don't+tell+{TEXT.replace(' ', '+')}\r\n\r\n": "InvalidRequestLine",
    f"{TEXT}\r\n\r\n": "InvalidRequest",  # the rest of a body that was longer than its Content-Length
    f"POST / HTTP/1.1\r\nprompt {TEXT}: x\r\n\r\n": "InvalidHeaderName",
    f"POST / HTTP/1.1\r\nTransfer-Encoding: {TEXT}\r\n\r\n": "UnsupportedTransferCoding",
}


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::77"])
@pytest.mark.parametrize(("sent", "kind"), SENT.items(), ids=SENT.values())
def test_of_a_request_that_gunicorn_cannot_read_the_kind_of_the_error_is_told_alone(sent, kind, address):
    """As its worker does it, with its own reader of requests."""
    for form in (Plain(), Json()):
        try:
            Request(Config(), SocketUnreader(Pieces(sent)), (address, 1))
        except ParseException as error:
            message = f"Invalid request from ip={address}: {error}"
            line = form.format(record(message, name="gunicorn.error"))
        assert any(word in message for word in TEXT.split())
        assert f"Invalid request: {kind}" in line
        assert not any(secret in line for secret in (*TEXT.split(), "tell", address))


class Pieces:
    """A client's end, from which all comes at once, and nothing after it."""

    def __init__(self, sent: str):
        self.left = [sent.encode(), b""]

    def recv(self, _: int) -> bytes:
        return self.left.pop(0) if self.left else b""


def test_of_what_gunicorn_says_its_words_and_numbers_are_told_and_no_address():
    said = lambda *message: Plain().format(record(*message, name="gunicorn.error"))  # noqa: E731
    for address in ("/?prompt=don't+tell+hedgehogs", "/r/secret", "203.0.113.7"):
        for words in ("Error handling request %s", "Error handling request %s %s"):
            line = said(words, *["POST", address][-words.count("%s") :])
            assert "Error handling request …" in line
            assert address not in line
    assert "hedgehogs" not in said("Error handling request /?prompt=don't+tell+hedgehogs")
    assert "Worker (pid:7) was sent SIGKILL! Perhaps" in said("Worker (pid:%s) was sent %s! Perhaps", 7, "SIGKILL")
    assert ":8000" in said("Connection in use: %s", "http://[::1]:8000")
    assert "hedgehogs" not in said(f"Traceback (most recent call last):\n  {TEXT}")


def test_a_message_with_line_breaks_is_one_line():
    line = Plain().format(record("first\nsecond %s", "a\r\nb"))
    assert line.endswith("first second a b")
    assert len(Json().format(record("first\u2028second\n")).splitlines()) == 1


def test_json_holds_what_the_words_say():
    told = {"page": "/r/<run_id>", "status": 200, "seconds": 0.1}
    line = json.loads(Json().format(record("%s is there", "it", error=raised(KeyError(1)), told=told)))
    assert line["message"] == "it is there"
    assert (line["level"], line["logger"]) == ("warning", "webapp.runs.recorder")
    assert line["error"].startswith("KeyError in ")
    assert line.items() >= told.items()
    assert line["time"].endswith("Z")


def test_each_request_is_a_line_where_that_is_asked_for(app, visitor, caplog):
    caplog.set_level(logging.INFO, "webapp.http.answers")
    visitor.client.environ_base["REMOTE_ADDR"] = "203.0.113.77"
    run = visitor.start(TEXT, max_new_tokens=2)
    visitor.get(run, query_string={"prompt": TEXT})
    visitor.get(f"/{TEXT}")
    visitor.client.open("/", method="HEDGEHOG")
    lines = [Plain().format(one) for one in caplog.records if one.name == "webapp.http.answers"]
    assert len(lines) == 4
    for line, said in zip(lines, ("POST /runs 303", "GET /r/<run_id> 200", "GET - 404", "HEDGEHOG - "), strict=True):
        assert said in line
        assert not any(secret in line for secret in (*TEXT.split()[:2], "203.0.113.77", run[3:]))
    caplog.clear()
    caplog.set_level(logging.WARNING, "webapp.http.answers")
    visitor.get(run)
    assert not caplog.records


def test_a_fault_of_ours_is_logged_without_what_was_asked(app, visitor, monkeypatch, caplog):
    def broken(*_, **__):
        raise ValueError(TEXT)

    monkeypatch.setattr(app.extensions["rubric"].service, "start", broken)
    assert visitor.post("/runs", data={"prompt": TEXT, "model": "tiny"}).status_code == 500
    (line,) = [Plain().format(one) for one in caplog.records]
    assert "a request failed | Traceback: ValueError in " in line
    assert "hedgehogs" not in line


def test_the_root_stays_quiet_whatever_ours_tell():
    for level in ("error", "info"):
        found = config("json", level)
        assert found["root"]["level"] == "WARNING"
        assert found["loggers"].pop("gunicorn.access")["level"] == "CRITICAL", "its lines hold addresses"
        assert {one["level"] for one in found["loggers"].values()} == {level.upper()}


@pytest.mark.long
def test_a_server_logs_json_lines_without_anybody_s_text(models, tmp_path):
    options = {"RUBRIC_MODEL": "tiny", "RUBRIC_LOG": "json", "RUBRIC_LOG_LEVEL": "info"}
    with serving(tmp_path, models, **options) as server:
        run = start_run(server, prompt=TEXT, max_new_tokens="5")
        get(f"{run}/events")
        get(server.url + "/?prompt=wistful+hedgehogs")
        with urllib.request.urlopen(server.url + "/healthz") as answer:
            assert answer.status == 200
        until(lambda: "/healthz" in server.log.read_text(), what="a line for the last request")
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    others = [line for line in log.splitlines() if line and not line.startswith(("{", "  "))]
    assert others == []
    assert {"/runs", "/r/<run_id>/events", "/", "/healthz"} <= {line.get("page") for line in lines}
    assert not any(word in log for word in (*TEXT.split()[:2], run.rpartition("/")[2], '127.0.0.1"'))
