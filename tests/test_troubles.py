"""What the bar says when something is in the way, and what it hints at before; said at once, and gone when it is over."""

import contextlib
import urllib.request

import pytest
from browser import answer_to, get, opened, serving
from waiting import until

pytestmark = pytest.mark.long

NOTES = ("ERR_", "Failed to load resource", "Failed to fetch")  # what Chromium notes of lost connections and refusals
AGAIN = """new MutationObserver(() => { window.said = (window.said ?? 0) + 1; })
  .observe(document.querySelector('#sheet-status'), {childList: true, characterData: true, subtree: true})"""
PLACE = "document.querySelector('.cm-line').getBoundingClientRect().top"


@pytest.fixture(scope="module")
def narrow(models, tmp_path_factory):
    """A server with room for one run, one more in line, two readers, and short texts; it soon ends what nobody watches."""
    room = {"RUBRIC_MAX_ROWS": "1", "RUBRIC_MAX_WAITING": "1", "RUBRIC_MAX_STREAMS": "2", "RUBRIC_MAX_PROMPT": "1000"}
    room["RUBRIC_GRACE"] = "3"
    with serving(tmp_path_factory.mktemp("narrow"), models, RUBRIC_MODEL="slow", **room) as server:
        yield server


@pytest.fixture
def window(browser, narrow, request):
    """A window whose console may complain of what is in the way here."""
    with opened(browser, narrow, **getattr(request, "param", {})) as window:
        yield window
        window.errors[:] = [error for error in window.errors if not any(note in error for note in NOTES)]


@pytest.fixture
def page(window):
    return window.page


def begin(window, text="the old", model="tiny"):
    """A sheet that is stored, and whose page hears the server."""
    with window.page.expect_response("**/events*"):
        window.type(text, f"/?model={model}&seed=1&max_new_tokens=5")


def says(page, beginning):
    """Wait until the bar's line begins so; "" is any that says nothing of a trouble."""
    until(lambda: status(page).startswith(beginning), what=lambda: f"{status(page)!r} instead of {beginning!r}")


def status(page) -> str:
    return page.inner_text("#sheet-status")


@contextlib.contextmanager
def offline(window):
    window.context.set_offline(True)
    yield
    window.context.set_offline(False)


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({}, id="wide"),
        pytest.param({"viewport": {"width": 390, "height": 780}}, id="phone", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_being_offline_is_said_at_once_and_moves_no_text(window, page):
    begin(window)
    place = page.evaluate(PLACE)
    with offline(window):
        says(page, "You are offline. What you type is kept here and saved when you are online again.")
        assert page.get_attribute("#sheet-status", "role") == "status"
        assert page.evaluate(PLACE) == place
    until(lambda: status(page) == "")


def test_a_press_while_offline_is_answered_and_done_when_there_is_a_connection_again(window, page):
    begin(window)
    with offline(window):
        page.keyboard.press("Control+Enter")
        says(page, "You are offline. What you pressed is kept here and done when you are online again.")
        assert page.is_visible("#write-on .begin"), "nothing is written yet that could be stopped"
        page.evaluate(AGAIN)
        page.keyboard.press("Control+Enter")
        until(lambda: page.evaluate("window.said >= 2"), what="the same, read out once more")
        page.keyboard.press("Tab")
        assert page.is_hidden(".suggestions")
        says(page, "You are offline.")
    window.wait_until_written()
    says(page, "Stopped at its length: 5 tokens.")


def test_a_server_that_does_not_answer_is_told_from_being_offline(window, page):
    begin(window)
    page.route("**/edits", lambda route: route.abort())
    page.keyboard.type(" king")
    says(page, "The server does not answer. What you type is kept here and saved when it does.")
    page.unroute("**/edits")
    until(lambda: status(page) == "")


def test_a_line_that_was_cut_is_said_until_the_page_is_back(window, page):
    page.route("**/events*", lambda route: route.abort())
    window.type("the old", "/?model=tiny")
    says(page, "The connection was lost. This page comes back by itself; nothing that was written is gone.")
    page.unroute("**/events*")
    until(lambda: status(page) == "")


class Crowd:
    """Others who have long texts written, and watch them."""

    def __init__(self, server):
        self.server, self.readers = server, []

    def come(self) -> bool:
        """One more of them; answers whether the line is full now."""
        form = b"prompt=Once&model=slow&seed=1&max_new_tokens=4096"
        answer = answer_to(urllib.request.Request(f"{self.server.url}/runs", form))
        if answer.status == 303:
            run = self.server.url + answer.headers["Location"]
            until(lambda: self.watch(run), what="a place for a reader")
        return "the line is full" in get(f"{self.server.url}/busy")

    def watch(self, run) -> bool:
        """Read along from now on; answers whether there was a place, as who has just left may still have one."""
        reader = urllib.request.urlopen(f"{run}/events", timeout=60)
        if is_in := reader.readline() != b"event: busy\n":
            self.readers.append(reader)
        return is_in

    def leave(self):
        while self.readers:
            self.readers.pop().close()


@pytest.fixture
def crowd(narrow):
    crowd = Crowd(narrow)
    until(crowd.come, what="a full line")
    yield crowd
    crowd.leave()


def test_too_many_who_watch_are_told_from_a_lost_connection(window, page, crowd):
    window.type("the old", "/?model=tiny")
    says(page, "Too many people are watching just now. New words appear here as soon as there is room")
    page.keyboard.type(" king")
    until(lambda: page.request.get(f"{page.url}/state").json()["spans"] == [{"text": "the old king"}])
    says(page, "Too many people are watching just now.")
    crowd.leave()
    until(lambda: status(page) == "")


def test_a_full_line_is_said_until_there_is_room(window, page, crowd):
    window.type("the old", "/?model=tiny")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#problem [role=alert]")
    assert page.inner_text("#problem") == "The line is full: one run is waiting; please try again in a moment."
    crowd.leave()
    page.wait_for_selector("#problem [role=alert]", state="detached")


def test_a_refused_value_is_named_until_another_one_is_there(window, page):
    begin(window)
    page.fill("#length", "9999")
    page.click("#write-on")
    page.wait_for_selector("#problem [role=alert]")
    assert page.inner_text("#problem") == "How long: max_new_tokens must be a whole number from 0 to 4,096, not '9999'."
    assert page.get_attribute("[name=max_new_tokens]", "aria-invalid") == "true"
    page.fill("[name=max_new_tokens]", "9")
    page.wait_for_selector("#problem [role=alert]", state="detached")
    assert page.get_attribute("[name=max_new_tokens]", "aria-invalid") is None


def test_a_text_that_is_too_long_is_said_until_it_is_short_enough_and_then_saved(window, page):
    begin(window)
    page.keyboard.insert_text("x" * 1000)
    page.wait_for_selector("#problem [role=alert]")
    said = "text may have at most 1,000 bytes, not 1,007. It is kept on this page, and saved once it is shorter."
    assert page.inner_text("#problem") == said
    for _ in range(8):
        page.keyboard.press("Backspace")
    page.wait_for_selector("#problem [role=alert]", state="detached")
    until(lambda: len(page.request.get(f"{page.url}/state").json()["spans"][0]["text"]) == 999)


def test_a_press_for_another_page_is_not_silent_while_offline(window, page):
    begin(window)
    page.click("[data-do=more]")
    with offline(window):
        page.click("text=How surprising is my text?")
        page.wait_for_selector("#problem [role=alert]")
        assert page.inner_text("#problem") == "You are offline. Press again when you are online."
    page.wait_for_selector("#problem [role=alert]", state="detached")


# Hints


def test_a_space_at_the_end_gets_a_hint_after_a_while_and_no_hint_once_it_is_gone(window, page):
    begin(window, "the old ", "storyteller")
    says(page, "There is a space at the end. The model’s words bring their own; without yours it goes on better.")
    page.keyboard.press("Home")
    says(page, "Write on goes on from the caret")
    page.keyboard.press("End")
    says(page, "There is a space at the end.")
    page.keyboard.press("Backspace")
    until(lambda: status(page) == "")


def test_a_script_that_the_model_hardly_knows_gets_a_hint_before_anything_is_written(window, page):
    begin(window, "从前有一只狐狸", "storyteller")
    says(page, "storyteller was made for English and hardly knows this script; it will stumble here.")
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("Once upon a time")
    until(lambda: status(page) == "")
