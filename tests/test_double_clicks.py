"""A hasty hand: whatever is pressed twice happens once, and the address is that of what happened. Chromium and gunicorn."""

import pytest
from browser import unfold
from waiting import until

MANY = "SELECT count(*) FROM run"

without_scripts_too = pytest.mark.parametrize(
    "window", [{}, {"java_script_enabled": False}], ids=["with scripts", "without scripts"], indirect=True
)

pytestmark = pytest.mark.long


without_scripts = pytest.mark.parametrize("window", [{"java_script_enabled": False}], indirect=True)


def fill(window):
    """The form, filled in by its address; few tokens, as its page is not idle before the text has ended."""
    window.page.goto(f"{window.server.url}/?prompt=the+old+king&max_new_tokens=5")


def arrived(window, server, before, old="") -> str:
    """The address after one more run was made from the page `old`; it is that run's."""
    # not for an address: the second click may abort the first one's navigation
    window.page.wait_for_selector(f'[data-share][href*="/r/"]:not([href*="{old[-16:]}"])', state="attached")
    window.page.wait_for_load_state("networkidle")
    address = window.page.url
    assert server.stored(MANY) == before + 1
    assert server.stored("SELECT id FROM run ORDER BY created DESC LIMIT 1") == address.rsplit("/", 1)[1]
    return address


@without_scripts
def test_a_double_click_on_the_form_makes_one_run(window, server):
    before = server.stored(MANY)
    fill(window)
    window.page.dblclick("button:has-text('Write on')")
    arrived(window, server, before)


@without_scripts_too
def test_a_double_click_that_asks_only_to_read_makes_one_run(window, server, request):
    before = server.stored(MANY)
    fill(window)
    if not request.node.callspec.params["window"]:  # with scripts, which come after the page
        unfold(window.page)
    window.page.dblclick("button:has-text('How surprising is my text?')")
    arrived(window, server, before)


@pytest.mark.parametrize(
    "twice",
    [
        lambda page: page.dblclick("#write-on"),
        lambda page: [page.keyboard.press("Control+Enter") for _ in range(2)],
    ],
    ids=["by mouse", "by keyboard"],
)
def test_a_double_press_in_a_sheet_makes_one_run_and_does_not_stop_it(window, server, twice):
    before = server.stored(MANY)
    fill(window)
    twice(window.page)
    window.wait_until_written()
    assert server.stored(MANY) == before + 1
    newest = "SELECT finish_reason FROM sample ORDER BY rowid DESC LIMIT 1"
    until(lambda: server.stored(newest) == "length", what="an end by its length")


def finished(window) -> str:
    """The page of a run that is over, started by this window's visitor."""
    form = {"prompt": "the old king", "model": "tiny", "max_new_tokens": "3", "seed": "1"}
    answer = window.context.request.post(window.server.url + "/runs", form=form, max_redirects=0)
    address = window.server.url + answer.headers["location"]
    window.context.request.get(address + "/events")
    window.page.goto(address)
    return address


@without_scripts_too
@pytest.mark.parametrize("button", ["Continue", "Retry"])
def test_a_double_click_under_a_text_makes_one_run(window, server, button):
    old = finished(window)
    before = server.stored(MANY)
    window.page.dblclick(f"button:has-text('{button}')")
    arrived(window, server, before, old)


@without_scripts_too
def test_a_double_click_on_delete_leads_to_the_list_of_runs(window, server):
    finished(window)
    before = server.stored(MANY)
    window.page.click("text=Delete it")
    window.page.dblclick("text=Delete for good")
    window.page.wait_for_selector("h1:has-text('Your sheets')")
    assert server.stored(MANY) == before - 1


def test_a_double_click_on_another_word_makes_one_run(window, server):
    old = finished(window)
    before = server.stored(MANY)
    window.page.click(".continuation [data-n]")
    window.page.dblclick("text=Again from here")
    arrived(window, server, before, old)


def test_a_replay_can_be_pressed_again_once_it_is_over(window):
    finished(window)
    addresses = set()
    for _ in range(2):
        with window.page.expect_response("**/replay") as answer:
            window.page.dblclick("button:has-text('Replay')")
        addresses.add(answer.value.headers["content-location"])
        window.page.wait_for_selector("#replay .verdict")
    assert len(addresses) == 2


@without_scripts
def test_back_and_the_same_words_again_make_another_run(window, server):
    fill(window)
    window.page.click("button:has-text('Write on')")
    window.page.wait_for_url("**/r/*")
    first = window.page.url
    window.page.go_back()
    window.page.wait_for_selector("#prompt")
    window.page.click("button:has-text('Write on')")
    window.page.wait_for_url("**/r/*")
    assert window.page.url != first
