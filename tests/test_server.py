"""A real gunicorn: steps, signals, restarts, and what it prints."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from browser import get, serving, start_run
from conftest import ROOT, parse_events, pictured, taken_in
from waiting import until

from generate import record_dtype


def chunks(url: str) -> list[bytes]:
    """The pieces in which a streamed answer arrives."""
    pieces = []
    with urllib.request.urlopen(url, timeout=60) as answer:
        while piece := answer.read1(65536):
            pieces.append(piece)
    return pieces


@pytest.mark.long
def test_text_arrives_in_steps_with_events_and_without_scripts(server):
    wish = {"model": "slow", "max_new_tokens": "200"}
    events, plain = (chunks(start_run(server, **wish) + part) for part in ("/events", "/plain"))
    assert len(events) > 4
    assert len(plain) > 4


def whole(server, **fields) -> str:
    """The text that an undisturbed run with these fields has."""
    run = start_run(server, **fields)
    get(run + "/events")
    return json.loads(get(run + ".json"))["samples"][0]["text"]


def told(events) -> str:
    """The text of a page that took in these events."""
    return functools.reduce(taken_in, events, "")


@pytest.mark.long
def test_sigterm_ends_streams_well_and_the_next_server_goes_on_where_this_one_was(mortal):
    text = whole(mortal, max_new_tokens="200")
    run = start_run(mortal, max_new_tokens="200")
    stream = urllib.request.urlopen(run + "/events", timeout=60)
    head = b"".join(stream.readline() for _ in range(12))
    begun = time.monotonic()
    mortal.process.send_signal(signal.SIGTERM)
    rest = stream.read()  # raises IncompleteRead when the stream is cut instead of ended
    mortal.process.wait(60)
    assert time.monotonic() - begun < 20
    seen = parse_events((head + rest).decode())
    assert seen[-1] == {"event": "pause", "data": "come back"}
    mortal.start()
    last = [e["id"] for e in seen if "id" in e][-1]
    after = parse_events(get(run + "/events", **{"Last-Event-ID": last}))
    assert after[-1] == {"event": "done", "data": "over"}
    assert told(seen + after) == pictured(text)
    assert json.loads(get(run + ".json"))["samples"][0]["text"] == text


@pytest.mark.long
def test_a_killed_server_loses_at_most_half_a_second_and_the_next_one_goes_on(mortal):
    text = whole(mortal, max_new_tokens="250")
    run = start_run(mortal, max_new_tokens="250")
    stream = urllib.request.urlopen(run + "/events", timeout=60)
    text_so_far, seen = "", []
    while len(told(seen)) < 150:
        text_so_far += stream.readline().decode()
        seen = parse_events(text_so_far.rpartition("\n\n")[0])
    mortal.kill()
    last = [e["id"] for e in seen if "id" in e][-1]
    mortal.start()
    stored = json.loads(get(run + ".json"))
    assert stored["state"] in ("paused", "waiting", "reading", "writing")
    assert len(stored["samples"][0]["tokens"]) > 0
    after = parse_events(get(run + "/events", **{"Last-Event-ID": last}))
    assert told(seen + after) == pictured(text)
    assert json.loads(get(run + ".json"))["samples"][0]["text"] == text


@pytest.mark.long
def test_what_a_killed_server_had_stored_is_no_older_than_half_a_second(mortal):
    run = start_run(mortal, max_new_tokens="4096")
    stored, late = "SELECT coalesce(sum(length(tokens)), 0) FROM block WHERE run_id = ?", []
    until(lambda: json.loads(get(run + ".json"))["samples"][0]["tokens"])
    for _ in range(5):
        sample, begun = json.loads(get(run + ".json"))["samples"][0], time.monotonic()
        size = len(sample["tokens"]) * record_dtype(300).itemsize
        until(lambda size=size: mortal.stored(stored, run[-16:]) >= size, 30, "the saving")
        late.append(time.monotonic() - begun)
    mortal.kill()
    mortal.start()
    assert json.loads(get(run + ".json"))["samples"][0]["text"].startswith(sample["text"])
    assert min(late) <= 0.5  # a machine that has other things to do may hold up some savings


@pytest.mark.long
def test_a_thread_is_always_left_for_pages_while_streams_are_full(tmp_path, models):
    with serving(tmp_path, models, RUBRIC_MODEL="slow", RUBRIC_MAX_STREAMS="8") as server:
        run = start_run(server, max_new_tokens="4096")
        streams = [urllib.request.urlopen(run + "/events", timeout=60) for _ in range(8)]
        assert parse_events(get(run + "/events")) == [{"event": "busy", "retry": "5000", "data": "come back"}]
        assert json.loads(get(server.url + "/healthz")) == {"ok": True}
        for stream in streams:
            stream.close()


def test_clients_that_leave_their_connection_open_hold_up_nobody(server):
    """gunicorn alone lingers two seconds for each of them, in the one thread that lets the others in."""
    lingering = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
    for connection in lingering:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for connection in lingering:
        assert connection.recv(9) == b"HTTP/1.1 "
    assert urllib.request.urlopen(server.url + "/healthz", timeout=60).status == 200
    for connection in lingering:
        connection.close()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\nprompt=x\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"-8\r\nprompt=x\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"8\r\nprompt=xXX0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"FFFFFFFFFFFFFFFFFF\r\nprompt=x"),
        ("Transfer-Encoding: chunked", b"8\r\nprompt"),
        ("Content-Length: 20", b"prompt=Once+upon"),
        ("Content-Length: -3", b"prompt=x"),
    ],
)
def test_a_form_that_does_not_arrive_whole_is_the_sender_s_fault_and_starts_nothing(server, header, body):
    before = server.stored("SELECT count(*) FROM run")
    kind = "application/x-www-form-urlencoded"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = f"POST /runs HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{header}\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert server.stored("SELECT count(*) FROM run") == before


def test_a_server_for_the_network_prints_an_address_for_friends(tmp_path):
    """It is not started: a test listens on this machine alone."""
    code = (
        "import os, runpy; conf = runpy.run_path('gunicorn.conf.py'); "
        "print(conf['bind'], conf['worker_class'], conf['workers'], conf['threads']); conf['say_where'](); "
        "os.environ['LC_ALL'] = 'zh_CN.UTF-8'; conf['say_where']()"
    )
    environment = {**os.environ, "HOST": "0.0.0.0", "PORT": "9000", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert "0.0.0.0:9000 gthread 1 320" in out.stdout
    assert "http://127.0.0.1:9000" in out.stdout
    assert "Friends on the same network: http://" in out.stdout
    assert "Rubric 的地址：http://127.0.0.1:9000" in out.stdout, "to an operator who reads Chinese"
    assert "同一网络里的朋友用：http://" in out.stdout


@pytest.mark.long
def test_a_server_that_cannot_start_says_so_in_one_sentence(tmp_path):
    for change, sentence in [
        ({"RUBRIC_DEVICE": "tpu"}, "RUBRIC_DEVICE is 'tpu': must be one of auto, cpu, cuda."),
        ({"RUBRIC_INSTANCE": str(tmp_path / "empty")}, "The database is empty"),
    ]:
        environment = {**os.environ, "PORT": "1", **change}
        environment["PYTHONPATH"] = str(ROOT)
        out = subprocess.run(
            [sys.executable, "-c", "import wsgi"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert out.returncode == 4
        assert sentence in out.stderr
        assert "Traceback" not in out.stderr
