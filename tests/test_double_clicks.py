"""A hasty hand: whatever is pressed twice happens once, and the address is that of what happened. Chromium and gunicorn."""

import pytest
from browser import opened

MANY = "SELECT count(*) FROM run"


@pytest.fixture(params=["with scripts", "without scripts"])
def window(browser, server, request):
    with opened(browser, server, java_script_enabled=request.param == "with scripts") as window:
        yield window


@pytest.fixture
def scripted(browser, server):
    with opened(browser, server) as window:
        yield window


def fill(window, prompt="the old king"):
    window.page.goto(window.server.url)
    window.page.fill("#prompt", prompt)


def arrived(window, server, before) -> str:
    """The address after one more run was made; it is that run's."""
    window.page.wait_for_url("**/r/*")
    window.page.wait_for_load_state("networkidle")
    address = window.page.url
    assert server.stored(MANY) == before + 1
    assert server.stored("SELECT id FROM run ORDER BY created DESC LIMIT 1") == address.rsplit("/", 1)[1]
    return address


@pytest.mark.parametrize("button", ["Write on", "Only read it"])
def test_a_double_click_on_the_form_makes_one_run(window, server, button):
    before = server.stored(MANY)
    fill(window)
    window.page.dblclick(f"button:has-text('{button}')")
    arrived(window, server, before)


def test_ctrl_and_enter_twice_make_one_run(scripted, server):
    before = server.stored(MANY)
    fill(scripted)
    for _ in range(2):
        scripted.page.keyboard.press("Control+Enter")
    arrived(scripted, server, before)


def finished(window) -> str:
    """The page of a run that is over, started by this window's visitor."""
    form = {"prompt": "the old king", "model": "tiny", "max_new_tokens": "3", "seed": "1"}
    answer = window.context.request.post(window.server.url + "/runs", form=form, max_redirects=0)
    address = window.server.url + answer.headers["location"]
    window.context.request.get(address + "/events")
    window.page.goto(address)
    return address


@pytest.mark.parametrize("button", ["Continue", "Retry"])
def test_a_double_click_under_a_text_makes_one_run(window, server, button):
    old = finished(window)
    before = server.stored(MANY)
    window.page.dblclick(f"button:has-text('{button}')")
    window.page.wait_for_url(lambda url: url != old)
    arrived(window, server, before)


def test_a_double_click_on_delete_leads_to_the_list_of_runs(window, server):
    finished(window)
    before = server.stored(MANY)
    window.page.click("text=Delete it")
    window.page.dblclick("text=Delete for good")
    window.page.wait_for_url("**/runs")
    window.page.wait_for_selector("h1:has-text('Your runs')")
    assert server.stored(MANY) == before - 1


def test_a_double_click_on_another_word_makes_one_run(scripted, server):
    old = finished(scripted)
    before = server.stored(MANY)
    scripted.page.click(".continuation [data-n]")
    scripted.page.dblclick("text=Again from here")
    scripted.page.wait_for_url(lambda url: url != old)
    arrived(scripted, server, before)


def test_a_replay_can_be_pressed_again_once_it_is_over(scripted):
    finished(scripted)
    addresses = set()
    for _ in range(2):
        with scripted.page.expect_response("**/replay") as answer:
            scripted.page.dblclick("button:has-text('Replay')")
        addresses.add(answer.value.headers["content-location"])
        scripted.page.wait_for_selector("#replay .verdict")
    assert len(addresses) == 2


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
