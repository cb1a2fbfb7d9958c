"""Clients of the API who leave, over a real gunicorn: their rows are free again.

How soon, `python -m bench.api` measures; that nobody waits longer than half a second before a look at the client is in
test_api_line.py.
"""

import json
import socket
import time
import urllib.request
from contextlib import contextmanager

import pytest
from waiting import until

EARLY = 10  # seconds; long before the text would end by itself
ENDLESS = {"model": "slow", "prompt": "the old king", "max_tokens": 4096, "ignore_eos": True, "seed": 1}


@contextmanager
def connection(server, **body):
    """A request that was sent, whose answer is for the test to read."""
    data = json.dumps(ENDLESS | body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        yield client


def busy(server) -> str:
    return urllib.request.urlopen(server.url + "/busy", timeout=60).read().decode()


@pytest.fixture
def idle(server):
    """Whether the engine has nothing to do, which it has not at first."""

    def is_idle() -> bool:
        return "Nobody is writing" in busy(server)

    until(is_idle, what="an idle engine")
    return is_idle


def test_a_stream_whose_client_leaves_ends(server, idle):
    with connection(server, stream=True) as client:
        until(lambda: not idle(), what="a row in use")
        client.recv(1)
    until(idle, EARLY, "the row's being free")


def test_so_does_an_answer_that_is_not_streamed(server, idle):
    with connection(server):
        until(lambda: not idle(), what="a row in use")
    until(idle, EARLY, "the row's being free")


def test_and_one_in_line(server, idle):
    """Of 32 rows all are taken; whoever waits behind them and leaves is not let in when they go."""
    with connection(server, n=32, prompt="the"):
        until(lambda: not idle(), what="rows in use")
        with connection(server):
            until(lambda: " in line" in busy(server), what="somebody in line")
        until(lambda: " in line" not in busy(server), EARLY, "an empty line")
    until(idle, EARLY, "free rows")


def test_a_client_who_asks_on_the_same_connection_again_is_there_still(server):
    with connection(server, max_tokens=2) as client:
        answers = b""
        while b"total_tokens" not in answers:
            answers += client.recv(65536)
        data = json.dumps(ENDLESS | {"max_tokens": 1}).encode()
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        answers = b""
        while b"total_tokens" not in answers:
            answers += client.recv(65536)
        assert b" 200 " in answers.split(b"\r\n")[0]


@pytest.mark.long
def test_a_server_that_is_being_stopped_says_so_in_the_stream(mortal):
    with connection(mortal, stream=True) as client:
        client.recv(1)
        mortal.process.terminate()
        answer, begun = b"", time.monotonic()
        while part := client.recv(65536):
            answer += part
            assert time.monotonic() - begun < 60
    assert b'"error"' in answer
    assert b"data: [DONE]" in answer
    mortal.process.wait(60)
