"""A sheet while servers are killed and networks lost: what was typed is there again, and all that a model wrote."""

import contextlib
import json
import random
import time

import pytest
from browser import opened, serving
from waiting import until
from walk import Walk

SLOWEST = """Math.max(...performance.getEntriesByType('resource').filter(({name}) => name.endsWith('/edits')).map(({duration}) => duration)) / 1000"""


@pytest.fixture(scope="module")
def frail(models, tmp_path_factory):
    """A server to be killed, with a model that takes a while."""
    with serving(tmp_path_factory.mktemp("frail"), models, RUBRIC_MODEL="slow") as server:
        yield server


class Hand:
    """Somebody who types words that are never the same, and asks the model to go on."""

    def __init__(self, window, seed):
        self.page, self.server, self.draw, self.typed = window.page, window.server, random.Random(seed), []
        self.page.goto(f"{self.server.url}/?model=slow&max_new_tokens=60&min_new_tokens=60&seed=1")
        self.page.wait_for_selector(".cm-content")
        self.seen = []  # what was red on the page, once in a while

    def look(self):
        """Remember what the model wrote, as the page shows it; the last character may be a half one."""
        self.seen.append("".join(c for c, name in Walk.shown(self) if name).rstrip("\ufffd"))

    def type(self, *places):
        """One word, at the end or at the beginning."""
        word = f"«{len(self.typed)}»"
        self.page.focus(".cm-content")
        self.page.keyboard.press(self.draw.choice(places or ["Control+End", "Control+Home"]))
        self.page.keyboard.insert_text(word)
        self.typed.append((time.monotonic(), word))

    def write(self):
        self.page.focus(".cm-content")
        self.page.keyboard.press("Control+End")
        self.page.keyboard.press("Control+Enter")

    def wait(self):
        self.page.wait_for_timeout(self.draw.choice([50, 300, 900]))

    def state(self):
        path = self.page.evaluate("location.pathname")
        return json.loads(self.page.context.request.get(f"{self.server.url}{path}/state").text())

    def shown(self):
        return "".join(c for c, _ in Walk.shown(self))

    def text(self):
        """The server's; the page shows controls as pictures."""
        return "".join(c for c, _ in Walk.stored(self.state()) if c >= " " or c in "\n\t")


def all_of_it_is_there(hand):
    """Page and server agree, every word that was typed is there once, what is red is what the runs wrote, and of what was
    ever seen in red nothing is missing: new words came behind it alone."""
    until(lambda: hand.state()["open"] is None, 60, "the end of the writing")
    until(lambda: hand.shown() == hand.text(), 30, lambda: f"{hand.shown()!r}\n{hand.text()!r}\nwhat is the same")
    text = hand.text()
    assert [word for _, word in hand.typed if text.count(word) != 1] == []
    written_by_runs(hand.state(), hand)
    hand.look()
    assert hand.seen[-1]
    assert [red for red in hand.seen if not hand.seen[-1].startswith(red)] == []


def written_by_runs(state, hand):
    for span in state["spans"]:
        if span.get("sample", -1) >= 0:
            told = json.loads(hand.page.context.request.get(f"{hand.server.url}/r/{span['run']}.json").text())
            tokens = [bytes(token["bytes"]) for token in told["samples"][0]["tokens"]]
            size = sum(count for _, count, _ in span["cells"])
            said = b"".join(tokens[span["from"] : span["from"] + size])
            shown = "".join(text for text, *_ in span["cells"])
            assert said.decode("utf-8", "replace").strip("\ufffd") in shown, (shown, said)


def disturbed(hand, disturb, steps):
    hand.type()
    for _ in range(steps):
        hand.draw.choice([hand.type, hand.type, hand.write, hand.wait, disturb])()
        hand.page.wait_for_timeout(hand.draw.choice([0, 100]))
        hand.look()


def restart(server):
    server.kill()
    server.start()


def interrupted(hand):
    hand.page.context.set_offline(True)
    hand.type()
    hand.page.wait_for_timeout(hand.draw.choice([100, 1500]))
    hand.page.context.set_offline(False)


@contextlib.contextmanager
def unquiet(browser, server):
    """A window whose console may complain of lost connections."""
    with opened(browser, server) as window:
        yield window
        lost = ("ERR_", "Failed to load resource", "Failed to fetch")
        window.errors[:] = [e for e in window.errors if not any(words in e for words in lost)]


@pytest.mark.long
def test_a_server_that_is_killed_again_and_again_loses_nothing_of_an_open_page(browser, frail):
    with unquiet(browser, frail) as window:
        hand = Hand(window, 1)
        disturbed(hand, lambda: restart(frail), 14)
        restart(frail)
        all_of_it_is_there(hand)


@pytest.mark.long
def test_a_network_that_comes_and_goes_loses_nothing(browser, frail):
    with unquiet(browser, frail) as window:
        hand = Hand(window, 2)
        disturbed(hand, lambda: interrupted(hand), 20)
        all_of_it_is_there(hand)


@pytest.mark.long
def test_where_page_and_server_die_at_once_the_last_second_of_typing_is_lost_at_most_and_nothing_written(
    browser, frail
):
    with unquiet(browser, frail) as window:
        hand = Hand(window, 3)
        for number in range(18):
            hand.type("Control+Home" if number > 6 else "Control+End")  # before what is written, which goes on
            hand.page.wait_for_timeout(hand.draw.choice([20, 150, 400]))
            if number == 6:
                hand.write()
                until(lambda: hand.look() or len(hand.seen[-1]) > 5, what="some words in red")
        hand.look()
        slowest = hand.page.evaluate(SLOWEST)
        address, killed = hand.page.evaluate("location.href"), time.monotonic()
        restart_with = hand.page.context.new_page()
        frail.kill()
        hand.page.close(run_before_unload=False)
        frail.start()
        hand.page = restart_with
        hand.page.goto(address)
        hand.page.wait_for_selector(".cm-content")
        until(lambda: hand.state()["open"] is None, 60, "the end of the writing")
        until(lambda: hand.shown() == hand.text(), 30)
        text = hand.text()
        # a second until it is sent, behind a request that is under way, and with one
        safe = killed - 1 - 2 * slowest
        assert [word for when, word in hand.typed if when < safe and word not in text] == []
        hand.look()
        assert [red for red in hand.seen if not hand.seen[-1].startswith(red)] == []
        written_by_runs(hand.state(), hand)
        window.page = restart_with
