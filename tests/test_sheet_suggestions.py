"""Suggestions in a real Chromium: asked for and chosen by keys, taken whole and by the word, by mouse and on a phone."""

import re

import pytest
from browser import opened
from test_sheet_bar import PHONE, SHIFTS
from test_sheet_editor import RED, is_stored
from waiting import until

pytestmark = pytest.mark.long

START = "/?model=storyteller&seed=1&min_new_tokens=24"
TEXTS = "[...document.querySelectorAll('.suggestions li')].map(row => row.textContent)"
FOCUS = "document.activeElement.id || document.activeElement.dataset.do || document.activeElement.id"
PROMPT = "Once upon a time"


@pytest.fixture
def page(window):
    return window.page


def begin(window, text=PROMPT, start=START):
    window.type(text, start)
    until(lambda: window.text() == text)


def suggested(window, count=3) -> list[str]:
    """Wait until all that is suggested is there; returns what is shown."""
    page = window.page
    page.wait_for_selector(".suggestions:not([hidden])")
    until(lambda: len(page.evaluate(TEXTS)) == count)
    page.wait_for_selector(".suggestions .note.unseen", state="attached")
    return page.evaluate(TEXTS)


def is_closed(page) -> bool:
    return page.is_hidden(".suggestions")


def letters(text) -> str:
    """A text without its spaces and line breaks, for which a row has a sign."""
    return re.sub(r"[\s↵]", "", text)


def red(window) -> str:
    return letters(window.page.evaluate(RED))


def chosen(page) -> str:
    """What assistive technology is told: the row that the text's `aria-activedescendant` names."""
    row = page.get_attribute(".cm-content", "aria-activedescendant")
    assert page.get_attribute(f"#{row}", "aria-selected") == "true"
    return page.inner_text(f"#{row}")


def test_tab_asks_arrows_and_digits_choose_and_enter_takes(window, page):
    begin(window)
    page.keyboard.press("Tab")
    texts = suggested(window)
    assert len(set(texts)) == 3
    assert chosen(page) == texts[0]
    page.keyboard.press("ArrowDown")
    assert chosen(page) == texts[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert chosen(page) == texts[2]
    page.keyboard.press("2")
    assert chosen(page) == texts[1]
    page.keyboard.press("Enter")
    assert is_closed(page)
    until(lambda: red(window) == letters(texts[1]), what="the second in red")
    assert page.get_attribute(".cm-content", "aria-activedescendant") is None
    page.keyboard.insert_text(" And")
    until(lambda: window.text().endswith(" And"), what="the caret behind what was taken")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    until(lambda: window.text() == PROMPT)


def test_control_and_right_take_a_word_and_the_rest_stays(window, page):
    begin(window)
    page.keyboard.press("Tab")
    texts = suggested(window)
    page.keyboard.press("3")
    words = texts[2].split()
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Control+ArrowRight")
    until(lambda: page.evaluate(RED).split() == words[:2], what="two words in red")
    assert page.evaluate(TEXTS) == [" ".join(words[2:])]
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Enter")
    until(lambda: red(window) == letters(texts[2]), what="all of it in red")
    assert is_closed(page)
    assert page.evaluate("document.querySelectorAll('.versions li').length") == 1, "each word is no run of its own"


def test_escape_leaves_and_the_next_tab_leaves_the_sheet(window, page):
    begin(window)
    page.keyboard.press("Tab")
    suggested(window)
    page.keyboard.press("Escape")
    assert is_closed(page)
    assert page.evaluate(FOCUS) == "text"
    page.keyboard.press("Tab")
    until(lambda: page.evaluate(FOCUS) == "write-on", what="the focus on the bar")
    page.keyboard.press("Shift+Tab")
    until(lambda: page.evaluate(FOCUS) == "text")
    page.keyboard.press("Shift+Tab")
    until(lambda: page.evaluate(FOCUS) != "text", what="the way back out of the sheet")
    page.focus(".cm-content")
    page.keyboard.press("Tab")
    suggested(window)
    assert window.text() == PROMPT


def test_on_an_empty_sheet_tab_goes_on_to_the_bar(window, page):
    page.goto(window.server.url)
    page.wait_for_selector(".cm-content")
    page.focus(".cm-content")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "write-on"
    page.click("[data-do=suggest]")
    suggested(window)  # a model can begin by itself, and be asked to


def test_typing_closes_them_and_takes_nothing(window, page):
    begin(window)
    page.keyboard.press("Tab")
    suggested(window)
    page.keyboard.press("x")
    until(lambda: is_closed(page))
    assert window.text() == f"{PROMPT}x"
    is_stored(window, f"{PROMPT}x")


def test_tab_again_asks_for_three_others(window, page):
    begin(window)
    page.keyboard.press("Tab")
    first = suggested(window)
    page.keyboard.press("Tab")
    until(lambda: not set(page.evaluate(TEXTS)) & set(first), what="others")
    others = suggested(window)
    assert not set(first) & set(others)


def test_in_the_middle_of_a_text_nothing_is_set_aside_and_the_caret_stands_behind_what_was_taken(window, page):
    begin(window, "Once upon a time. The end.")
    for _ in range(len(" The end.")):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    texts = suggested(window)
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Enter")
    until(lambda: red(window) == letters(texts[0]))
    page.keyboard.insert_text("|")
    until(lambda: window.text().endswith("| The end."))
    assert page.is_hidden(".aside")


def test_by_mouse_a_row_is_taken_and_the_text_keeps_the_focus(window, page):
    begin(window)
    page.click("[data-do=suggest]")
    texts = suggested(window)
    assert page.evaluate(FOCUS) == "text"
    page.click("#suggestion-2")
    until(lambda: red(window) == letters(texts[2]))


@pytest.mark.parametrize("window", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}], indirect=True)
def test_on_a_phone_they_stand_above_the_bar_and_a_tap_takes_one(window, page):
    begin(window)
    page.tap("[data-do=suggest]")
    texts = suggested(window)
    box, bar = (page.locator(one).bounding_box() for one in (".suggestions", ".acts"))
    assert abs(box["y"] + box["height"] - bar["y"]) < 2
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.tap(".suggestions .close")
    assert is_closed(page)
    page.tap("[data-do=suggest]")
    others = suggested(window)
    assert not set(texts) & set(others)
    page.tap("#suggestion-1")
    until(lambda: red(window) == letters(others[1]))


@pytest.mark.parametrize(
    "window",
    [pytest.param({}, id="wide"), pytest.param({"viewport": PHONE}, id="phone", marks=pytest.mark.long)],
    indirect=True,
)
def test_nothing_moves_while_they_are_written(window, page):
    page.add_init_script(SHIFTS)
    begin(window)
    before = page.evaluate("shifts.length")
    page.keyboard.press("Tab")
    suggested(window)
    assert sum(value for value, _ in page.evaluate("shifts")[before:]) < 0.02


@pytest.mark.parametrize("window", [{"viewport": {"width": 640, "height": 400}}], indirect=True, ids=["zoomed"])
def test_in_a_low_window_they_stand_under_the_line_and_are_seen_whole(window, page):
    begin(window, "\n".join(["A line of many."] * 10))
    page.keyboard.press("Tab")
    suggested(window)
    last, box = (page.locator(one).last.bounding_box() for one in (".cm-line", ".suggestions"))
    assert last["y"] + last["height"] <= box["y"] + 1
    assert 0 <= box["y"] < box["y"] + box["height"] <= 400


def test_at_the_end_of_a_long_text_they_cover_neither_its_last_line_nor_the_bar(window, page):
    begin(window, "\n".join(["A line of many."] * 40))
    page.keyboard.press("Tab")
    suggested(window)
    last, box, bar = (
        page.locator(one).last.bounding_box() for one in (".cm-line", ".suggestions", ".acts .row > button")
    )
    assert last["y"] + last["height"] <= box["y"] + 1
    assert box["y"] + box["height"] <= bar["y"]


def test_on_a_friend_s_sheet_one_that_is_taken_makes_a_sheet_of_one_s_own(window, page, browser, server):
    begin(window, start="/?model=storyteller&seed=1&max_new_tokens=6")
    page.keyboard.press("Control+Enter")
    window.wait_until_written()
    address = page.evaluate("location.href")
    with opened(browser, server) as friend:
        friend.page.goto(address)
        friend.page.wait_for_selector("#editor .red")
        friend.page.focus(".cm-content")
        friend.page.keyboard.press("Control+End")
        friend.page.keyboard.press("Tab")
        texts, before = suggested(friend), friend.text()
        assert friend.page.evaluate("location.href") == address
        friend.page.keyboard.press("Enter")
        until(lambda: friend.page.evaluate("location.href") != address, what="an address of one's own")
        until(lambda: letters(friend.text().removeprefix(before)) == letters(texts[0]))
    assert window.text() == before


def test_while_an_input_method_is_at_work_tab_is_its_own(window, page):
    begin(window)
    client = window.context.new_cdp_session(page)
    client.send("Input.imeSetComposition", {"text": "か", "selectionStart": 1, "selectionEnd": 1})
    until(lambda: window.text() == f"{PROMPT}か")
    page.keyboard.press("Tab")
    assert is_closed(page)


def test_what_is_taken_too_late_is_a_sentence_and_the_list_closes(window, page):
    begin(window)
    page.keyboard.press("Tab")
    suggested(window)
    gone = {"problem": "These suggestions are gone.", "field": None}
    page.route("**/take", lambda route: route.fulfill(status=410, json=gone))
    page.keyboard.press("Control+ArrowRight")
    until(lambda: is_closed(page))
    assert page.inner_text("#problem") == "These suggestions are gone."
    assert window.text() == PROMPT
    window.errors.remove("Failed to load resource: the server responded with a status of 410 (Gone)")


def test_what_gave_way_before_it_said_anything_is_a_sentence(window, page):
    begin(window)
    lines = '{"id":"x"}\n{"over":"The model is needed for another text."}\n'
    page.route("**/suggest", lambda route: route.fulfill(body=lines, content_type="application/x-ndjson"))
    page.keyboard.press("Tab")
    until(lambda: page.inner_text("#problem") == "The model is needed for another text.")
    assert is_closed(page)


def test_a_word_is_taken_while_the_rest_is_still_being_written(window, page):
    begin(window, start="/?model=slow&seed=4&min_new_tokens=24")
    page.keyboard.press("Tab")
    page.wait_for_selector("#suggestion-0:not(.none)")
    page.keyboard.press("Control+ArrowRight")
    until(lambda: page.evaluate(RED) != "", what="a word in red")
    (rest,) = suggested(window, 1)
    first = red(window)
    page.keyboard.press("Enter")
    until(lambda: red(window) == letters(first + rest), what="all of it in red")
