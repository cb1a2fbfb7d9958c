"""Nothing that happens to server, network or tab loses a word: the page ends with the text of an undisturbed run."""

import json
import signal
import subprocess
import urllib.error
import urllib.request

import pytest
from browser import Window, get, serving, start_run
from conftest import pictured
from test_server import whole
from waiting import until

LONG = {"max_new_tokens": 250, "seed": 5}
ENDLESS = {"max_new_tokens": 4096, "seed": 5}  # for tests that end it themselves
GRACE = 3  # seconds, where a test waits for its end; a page must have come back by then


@pytest.fixture(scope="module")
def undisturbed(server) -> str:
    """What the run of these tests says when nothing happens to it."""
    return pictured(whole(server, model="slow", **{name: str(value) for name, value in LONG.items()}))


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, models):
    """A server that soon ends what nobody watches."""
    settings = {"RUBRIC_MODEL": "slow", "RUBRIC_GRACE": str(GRACE)}
    with serving(tmp_path_factory.mktemp("impatient"), models, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, models):
    """A server with room for one reader, one run, and one more in line."""
    settings = {"RUBRIC_MAX_STREAMS": "1", "RUBRIC_MAX_ROWS": "1", "RUBRIC_MAX_WAITING": "1"}
    with serving(tmp_path_factory.mktemp("narrow"), models, RUBRIC_MODEL="slow", **settings) as server:
        yield server


@pytest.fixture
def window(browser, mortal, undisturbed):
    window = Window(browser, mortal)
    window.write("Once upon a time", model="slow", **LONG)
    until(lambda: len(window.story()) > 80)
    assert not window.over(), "it is over before anything could happen to it"
    yield window
    window.context.close()


def lost(window) -> str:
    """What the page says of its connection; "" while all is well."""
    line = window.page.locator("#lost")
    return line.inner_text() if line.is_visible() else ""


def comes_to_its_end(window, text):
    until(window.over, 60)
    assert window.story() == text
    assert lost(window) == ""
    assert window.story() == pictured(window.stored(window.page.url)["samples"][0]["text"])


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again(window, mortal, undisturbed):
    mortal.kill()
    until(lambda: "trying to come back" in lost(window))
    mortal.start()
    comes_to_its_end(window, undisturbed)


@pytest.mark.long
def test_a_server_that_is_restarted_as_one_should(window, mortal, undisturbed):
    mortal.process.send_signal(signal.SIGTERM)
    until(lambda: "being restarted" in lost(window))
    mortal.process.wait(60)
    mortal.start()
    comes_to_its_end(window, undisturbed)


@pytest.mark.long
def test_a_network_that_is_away_while_the_page_tries_three_times(window, mortal, undisturbed):
    freeze(mortal, True)  # a line that says nothing any more; offline alone lets Chromium keep what is open
    window.context.set_offline(True)
    before = len(window.asked)
    until(lambda: "trying to come back" in lost(window))
    until(lambda: lost(window) and sum("/events" in address for address in window.asked[before:]) >= 3)
    assert not window.over()
    freeze(mortal, False)
    window.context.set_offline(False)
    comes_to_its_end(window, undisturbed)


def freeze(server, still: bool) -> None:
    subprocess.run(["pkill", "-STOP" if still else "-CONT", "-P", str(server.process.pid)], check=True)


@pytest.mark.long
def test_a_tab_that_is_hidden_and_shown(window, undisturbed):
    other = window.context.new_page()
    other.bring_to_front()
    for _ in range(3):
        window.hide(True)
        window.grows()
        window.hide(False)
    window.hide(True)
    comes_to_its_end(window, undisturbed)


@pytest.mark.long
def test_a_hidden_tab_keeps_its_run_alive_past_the_grace_time(browser, impatient):
    window = Window(browser, impatient)
    url = window.write("Once upon a time", model="slow", **ENDLESS)
    window.hide(True)
    left = start_run(
        impatient, max_new_tokens="4096"
    )  # begun later, and nobody watches it: its end is past the other's
    until(lambda: is_over(impatient, left), what="the end of the grace time")
    assert not is_over(impatient, url)
    window.grows()
    assert not window.over()
    window.page.keyboard.press("Escape")
    until(window.over)
    assert window.stored(url)["samples"][0]["finish_reason"] == "cancelled"
    assert window.story() == pictured(window.stored(url)["samples"][0]["text"])
    window.context.close()


@pytest.mark.long
def test_a_run_that_nobody_watches_is_stopped_and_keeps_its_text(impatient):
    watched = start_run(impatient, max_new_tokens="4096")
    stream = urllib.request.urlopen(watched + "/events", timeout=60)
    left = start_run(impatient, max_new_tokens="4096")
    until(lambda: is_over(impatient, left))
    stored = json.loads(get(left + ".json"))["samples"][0]
    assert stored["finish_reason"] == "unwatched"
    assert f"Stopped at token {len(stored['tokens'])}: no page was connected to it." in get(left)
    assert json.loads(get(watched + ".json"))["state"] == "writing"
    stream.close()


def is_over(server, run) -> bool:
    """Without asking the server: who does counts as watching."""
    return server.stored("SELECT state FROM run WHERE id = ?", run.rsplit("/", 1)[1]) == "done"


@pytest.mark.long
def test_a_run_that_everybody_left_says_so_and_goes_on_at_a_press(browser, impatient, undisturbed):
    window = Window(browser, impatient)
    url = window.write("Once upon a time", model="slow", **ENDLESS)
    window.page.goto("about:blank")
    until(lambda: is_over(impatient, url))
    window.page.goto(url)
    assert window.over()
    assert "no page was connected" in window.page.inner_text("#status")
    window.page.click("text=Continue")
    window.page.wait_for_url(lambda address: address != url)
    until(lambda: len(window.story()) > 20)
    window.page.keyboard.press("Escape")
    until(window.over)
    made = window.stored(window.page.url)
    spoken = b"".join(bytes(token["bytes"]) for token in made["prompt"]["tokens"] + made["samples"][0]["tokens"])
    text, right = (whole_characters(one) for one in (pictured(spoken.decode("utf-8", "replace")), undisturbed))
    text = text.removeprefix("Once upon a time")
    assert text[: len(right)] == right[: len(text)]
    window.context.close()


def whole_characters(text: str) -> str:
    """A text that was stopped anywhere, without the half character that may be its last."""
    return text.rstrip("\ufffd")


def soon_discouraged(route):
    """The page as the server sends it, but that it tries to come back twice only."""
    answer = route.fetch()
    sent, told = answer.text(), '"reconnectMaxAttempts": '
    assert f"{told}20" in sent
    route.fulfill(response=answer, body=sent.replace(f"{told}20", f"{told}2"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_page_that_nothing_answers_stops_trying_and_shows_a_button(window, mortal, undisturbed):
    window.page.route(window.page.url, soon_discouraged)
    window.page.reload()
    mortal.kill()
    until(lambda: "stopped trying" in lost(window), seconds=150)
    mortal.start()
    window.page.click("#lost >> text=Try again")
    comes_to_its_end(window, undisturbed)


@pytest.mark.long
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


def test_friends_are_counted(browser, server):
    window, *friends = (Window(browser, server) for _ in range(3))
    window.write("Once upon a time", model="slow", **ENDLESS)
    until(lambda: len(window.story()) > 20)
    assert window.page.inner_text("#watching") == ""
    for friend in friends:
        friend.page.goto(window.page.url)
    until(lambda: window.page.inner_text("#watching") == "3 watching")
    until(lambda: friends[0].page.inner_text("#watching") == "3 watching")
    friends[1].context.close()
    until(lambda: window.page.inner_text("#watching") == "2 watching")
    friends[0].context.close()
    window.page.keyboard.press("Escape")
    until(window.over)
    window.context.close()


@pytest.mark.long
def test_readers_for_whom_there_is_no_place_are_told_and_let_in_later(browser, narrow):
    first, second = Window(browser, narrow), Window(browser, narrow)
    url = first.write("Once upon a time", model="slow", **ENDLESS)
    until(lambda: len(first.story()) > 50)
    second.page.goto(url)
    until(lambda: "Too many people" in lost(second))
    length = len(second.story())
    first.page.goto("about:blank")
    until(lambda: len(second.story()) > length + 20)
    first.context.request.post(f"{url}/stop")
    until(second.over)
    assert lost(second) == ""
    assert second.story() == pictured(second.stored(url)["samples"][0]["text"])
    for window in (first, second):
        window.context.close()


@pytest.mark.long
def test_a_full_line_refuses_with_a_sentence_and_a_time_to_come_back(narrow):
    answers = []
    for _ in range(4):
        try:
            urllib.request.urlopen(narrow.url + "/runs", b"prompt=x&max_new_tokens=4096&seed=1", timeout=60)
        except urllib.error.HTTPError as error:
            answers.append((error.code, error.headers["Retry-After"], "The line is full" in error.read().decode()))
    assert answers
    assert all(code == 503 and int(after) > 0 and said for code, after, said in answers)


@pytest.mark.long
def test_a_slow_reader_holds_up_neither_the_run_nor_the_others(window, mortal, undisturbed):
    import socket

    slow = socket.create_connection(("127.0.0.1", mortal.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    path = window.page.url.removeprefix(mortal.url)
    slow.sendall(f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    comes_to_its_end(window, undisturbed)
    slow.close()


@pytest.mark.long
def test_two_friends_and_a_restart(window, browser, mortal, undisturbed):
    friend = Window(browser, mortal)
    friend.page.goto(window.page.url)
    mortal.stop()
    mortal.start()
    comes_to_its_end(window, undisturbed)
    comes_to_its_end(friend, undisturbed)
    friend.context.close()
