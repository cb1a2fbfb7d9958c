"""Nothing that happens to server, network or tab loses a word: the page ends with the text of an undisturbed run."""

import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from browser import Server, Window, until
from conftest import pictured
from test_server import whole

LONG = {"max_new_tokens": 500, "seed": 5}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, models) -> str:
    """What the run of these tests says when nothing happens to it."""
    server = Server(tmp_path_factory.mktemp("undisturbed"), RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow").start()
    try:
        return pictured(whole(server, model="slow", **{name: str(value) for name, value in LONG.items()}))
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    """One for all tests: whichever kills it starts it again."""
    server = Server(tmp_path_factory.mktemp("server"), RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow").start()
    yield server
    if server.process.poll() is None:
        server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def window(browser, server):
    window = Window(browser, server)
    window.write("Once upon a time", model="slow", **LONG)
    until(lambda: len(window.story()) > 200)
    assert not over(window)
    yield window
    window.context.close()


def over(window) -> bool:
    return window.page.query_selector("#tools >> text=Retry") is not None


def lost(window) -> str:
    """What the page says of its connection; "" while all is well."""
    line = window.page.locator("#lost")
    return line.inner_text() if line.is_visible() else ""


def comes_to_its_end(window, text):
    until(lambda: over(window), 60)
    assert window.story() == text
    assert lost(window) == ""
    assert window.story() == pictured(window.stored(window.page.url)["samples"][0]["text"])


def test_a_server_that_is_killed_and_started_again(window, server, undisturbed):
    server.kill()
    until(lambda: "trying to come back" in lost(window))
    server.start()
    comes_to_its_end(window, undisturbed)


def test_a_server_that_is_restarted_as_one_should(window, server, undisturbed):
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "being restarted" in lost(window))
    server.process.wait(20)
    server.start()
    comes_to_its_end(window, undisturbed)


def test_a_network_that_is_away_for_ten_seconds(window, server, undisturbed):
    freeze(server, True)  # a line that says nothing any more; offline alone lets Chromium keep what is open
    window.context.set_offline(True)
    until(lambda: "trying to come back" in lost(window))
    time.sleep(10)
    assert not over(window)
    freeze(server, False)
    window.context.set_offline(False)
    comes_to_its_end(window, undisturbed)


def freeze(server, still: bool) -> None:
    subprocess.run(["pkill", "-STOP" if still else "-CONT", "-P", str(server.process.pid)], check=True)


def test_a_tab_that_is_hidden_and_shown(window, browser, undisturbed):
    other = window.context.new_page()
    other.bring_to_front()
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
      Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible', configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    for _ in range(3):
        window.page.evaluate(hide, True)
        time.sleep(0.3)
        window.page.evaluate(hide, False)
    window.page.evaluate(hide, True)
    comes_to_its_end(window, undisturbed)


def test_a_hidden_tab_keeps_its_run_alive_past_the_grace_time(browser, tmp_path, models, undisturbed):
    server = Server(tmp_path, RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow", RUBRIC_GRACE="1").start()
    window = Window(browser, server)
    try:
        window.write("Once upon a time", model="slow", **LONG)
        window.page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => true}); document.dispatchEvent(new Event('visibilitychange'))"
        )
        comes_to_its_end(window, undisturbed)
    finally:
        window.context.close()
        server.stop()


def test_a_run_that_everybody_left_says_so_and_goes_on_at_a_press(browser, tmp_path, models, undisturbed):
    server = Server(tmp_path, RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow", RUBRIC_GRACE="1").start()
    window = Window(browser, server)
    try:
        url = window.write("Once upon a time", model="slow", **LONG)
        window.page.goto("about:blank")
        time.sleep(5)
        window.page.goto(url)
        assert over(window)
        assert "nobody was watching" in window.page.inner_text("#status")
        window.page.click("text=Continue")
        window.page.wait_for_url(lambda address: address != url)
        until(lambda: len(window.story()) > 20)
        window.page.keyboard.press("Escape")
        until(lambda: over(window))
        assert undisturbed.startswith(window.page.text_content("#story").removeprefix("Once upon a time"))
    finally:
        window.context.close()
        server.stop()


def test_a_page_that_nothing_answers_stops_trying_and_shows_a_button(window, server, undisturbed):
    window.page.evaluate("document.querySelector('article.run')._htmx.sse.config.reconnectMaxAttempts = 2")
    server.kill()
    until(lambda: "stopped trying" in lost(window))
    server.start()
    window.page.click("#lost >> text=Try again")
    comes_to_its_end(window, undisturbed)


def test_a_stream_that_does_not_begin_is_asked_for_again(browser, server, undisturbed):
    window = Window(browser, server)
    refused = []

    def twice(route):
        if len(refused) < 2:
            refused.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    window.page.route("**/events**", twice)
    window.write("Once upon a time", model="slow", **LONG)
    until(lambda: window.story() is not None and len(refused) == 2)
    comes_to_its_end(window, undisturbed)
    window.context.close()


def test_friends_are_counted(window, browser, server):
    assert window.page.inner_text("#watching") == ""
    friends = [Window(browser, server) for _ in range(2)]
    for friend in friends:
        friend.page.goto(window.page.url)
    until(lambda: window.page.inner_text("#watching") == "3 watching")
    until(lambda: friends[0].page.inner_text("#watching") == "3 watching")
    friends[1].context.close()
    until(lambda: window.page.inner_text("#watching") == "2 watching")
    friends[0].context.close()
    window.page.keyboard.press("Escape")
    until(lambda: over(window))


def test_readers_for_whom_there_is_no_place_are_told_and_let_in_later(browser, tmp_path, models, undisturbed):
    server = Server(tmp_path, RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow", RUBRIC_MAX_STREAMS="1").start()
    first, second = Window(browser, server), Window(browser, server)
    try:
        url = first.write("Once upon a time", model="slow", **LONG)
        until(lambda: len(first.story()) > 50)
        second.page.goto(url)
        until(lambda: "Too many people" in lost(second))
        first.context.close()
        comes_to_its_end(second, undisturbed)
    finally:
        second.context.close()
        server.stop()


def test_a_full_line_refuses_with_a_sentence_and_a_time_to_come_back(tmp_path, models):
    server = Server(
        tmp_path, RUBRIC_MODELS=str(models), RUBRIC_MODEL="slow", RUBRIC_MAX_ROWS="1", RUBRIC_MAX_WAITING="1"
    ).start()
    try:
        answers = []
        for _ in range(4):
            try:
                urllib.request.urlopen(server.url + "/runs", b"prompt=x&max_new_tokens=4096", timeout=20)
            except urllib.error.HTTPError as error:
                answers.append((error.code, error.headers["Retry-After"], "The line is full" in error.read().decode()))
        assert answers
        assert all(code == 503 and int(after) > 0 and said for code, after, said in answers)
    finally:
        server.stop()


def test_a_slow_reader_holds_up_neither_the_run_nor_the_others(window, server, undisturbed):
    import socket

    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    path = window.page.url.removeprefix(server.url)
    slow.sendall(f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    comes_to_its_end(window, undisturbed)
    slow.close()


def test_two_friends_and_a_restart(window, browser, server, undisturbed):
    friend = Window(browser, server)
    friend.page.goto(window.page.url)
    restart = threading.Thread(target=lambda: (server.stop(), server.start()))
    restart.start()
    restart.join()
    comes_to_its_end(window, undisturbed)
    comes_to_its_end(friend, undisturbed)
    friend.context.close()
