"""What a newcomer finds on the first page: a run to look into, and beginnings that are written as soon as they are pressed."""

import pytest
from browser import Window, opened, serving
from test_accessibility import AXE, judge
from test_sheet_bar import SHIFTS
from waiting import until

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WIDE = {"viewport": {"width": 1280, "height": 800}}
SEES = "document.querySelector('#editor').getBoundingClientRect().top < document.querySelector('.acts').getBoundingClientRect().top - 60"
WORD = ".demo .continuation [data-n] >> nth=12"


@pytest.fixture(scope="module")
def teller(models, tmp_path_factory):
    """A server whose first model is the storyteller, once it has written its examples."""
    with serving(tmp_path_factory.mktemp("teller"), models, RUBRIC_MODEL="storyteller") as server:
        query = "select count(*) from run where owner = '' and state = 'done'"
        until(lambda: server.stored(query) == 3, what="the runs of the examples")
        yield server


@pytest.fixture(params=[pytest.param(WIDE, id="wide"), pytest.param(PHONE, id="phone", marks=pytest.mark.long)])
def newcomer(browser, teller, request) -> Window:
    with opened(browser, teller, **request.param) as window:
        window.page.add_init_script(SHIFTS)
        window.page.goto(teller.url)
        window.page.wait_for_selector(".acts.ready")
        yield window


@pytest.mark.long
def test_the_sheet_is_in_sight_below_the_run_and_has_the_caret_and_nothing_has_moved(newcomer):
    page = newcomer.page
    assert page.inner_text(".demo .prompt") == "Once upon a time there was a fox who wanted to see the sea."
    assert page.is_visible("text=Press a red word: what else could it have been?")
    assert page.evaluate(SEES)
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.activeElement.closest('#editor') !== null")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shifts = page.evaluate("shifts")
    assert sum(value for value, _ in shifts) < 0.02, shifts


def test_a_red_word_tells_what_else_it_could_have_been_and_closes(newcomer):
    page = newcomer.page
    page.click(WORD)
    page.wait_for_selector(".demo .bars li")
    assert page.locator(".demo .bars li").count() >= 10
    assert page.inner_text(".demo .token-name").strip("␣") == page.inner_text(WORD).strip()
    box = page.evaluate("(box => [box.left, box.right, box.top, box.bottom])(document.querySelector('.demo .token').getBoundingClientRect())")  # fmt: skip
    width, height = page.evaluate("[innerWidth, innerHeight]")
    assert box[0] >= 0
    assert box[1] <= width
    assert box[3] <= height
    assert box[3] - box[2] > 150, "high enough to be read"
    page.click(".demo .close")
    assert page.locator(".demo .token > *").count() == 0
    page.click(WORD)
    page.wait_for_selector(".demo .bars li")
    page.mouse.click(5, 300)
    until(lambda: page.locator(".demo .token > *").count() == 0)


def test_another_word_comes_into_the_sheet_and_the_model_goes_on_from_it(newcomer):
    page = newcomer.page
    before = page.inner_text(".demo .story").split(page.inner_text(WORD))[0]
    page.click(WORD)
    other = page.locator(".demo .bars li:not(.here) .name").first.inner_text().strip("␣ ")
    page.locator(".demo .bars li:not(.here) button").first.click()
    made = newcomer.wait_until_written()
    text = newcomer.text()
    assert text.startswith(f"{before.rstrip()} {other}")
    assert made["prompt"]["text"] == text[: len(before.rstrip()) + 1 + len(other)]
    assert page.inner_text("#editor .cm-line:first-child").startswith("Once upon a time")
    assert page.locator("#editor .red").first.inner_text().strip() != ""
    assert "/s/" in page.url


def test_beside_a_text_of_ones_own_another_word_makes_a_run_by_itself(newcomer):
    page = newcomer.page
    page.keyboard.insert_text("My own words")
    page.wait_for_url("**/s/*")
    page.click(WORD)
    page.locator(".demo .bars li:not(.here) button").first.click()
    page.wait_for_url("**/r/*")
    page.go_back()
    page.wait_for_url("**/s/*")
    page.wait_for_selector(".acts.ready")
    until(lambda: newcomer.text() == "My own words")


def test_by_keyboard_alone_a_word_is_found_looked_into_and_left(newcomer):
    page = newcomer.page
    page.focus(".wordmark")
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.demo .story')"):
            break
    else:
        pytest.fail("Tab does not lead to the run")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".demo .bars li")
    assert (
        page.evaluate("document.activeElement.textContent")
        == page.locator(".demo .continuation [data-n] >> nth=1").text_content()
    )
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("document.activeElement.closest('.demo .bars') !== null"))
    page.keyboard.press("Escape")
    assert page.locator(".demo .token > *").count() == 0
    assert page.evaluate("document.activeElement.matches('.demo .continuation [data-n]')"), (
        "the word has the keyboard again"
    )
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('.demo') !== null"), "and Tab goes on"


def test_a_beginning_that_is_pressed_is_written_at_once_as_it_was_tried(newcomer):
    page = newcomer.page
    button = page.locator(".example button").nth(1)
    button.scroll_into_view_if_needed()
    prompt = button.get_attribute("value")
    button.click()
    made = newcomer.wait_until_written()
    assert prompt == "Far out at sea, where the water is as blue as"
    assert made["prompt"]["text"] == prompt
    assert (made["options"]["seed"], made["options"]["max_new_tokens"]) == (162, 72)
    assert newcomer.text() == prompt + made["samples"][0]["text"]
    assert "Stopped at a sentence" in page.inner_text("#sheet-status")
    assert not page.is_visible(".ideas")
    assert page.input_value("[name=seed]") == page.input_value("[name=max_new_tokens]") == "", (
        "the settings are as they were"
    )
    assert page.inner_text("#chips") == ""
    page.click("[data-do=retry]")
    again = newcomer.wait_until_written()
    assert again["options"]["seed"] != 162
    assert again["options"]["max_new_tokens"] == 200
    page.click("[data-do=undo]")
    page.click("[data-do=undo]")
    until(lambda: newcomer.text() == prompt, what="the prompt alone, as if it had been typed")


def test_a_beginning_takes_the_place_of_what_was_typed_and_undo_brings_that_back(newcomer):
    page = newcomer.page
    page.keyboard.insert_text("Hm")
    if not page.is_visible(".ideas"):
        pytest.fail("it was stored before it could be pressed")
    page.evaluate("document.querySelector('.example button').click()")
    newcomer.wait_until_written()
    assert "last door" in newcomer.text()
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    until(lambda: newcomer.text() == "Hm")


def test_with_another_model_chosen_a_beginning_is_written_by_that_as_the_settings_say(newcomer):
    page = newcomer.page
    page.select_option("[name=model]", "tiny")
    page.locator(".example button").first.scroll_into_view_if_needed()
    page.locator(".example button").first.click()
    made = newcomer.wait_until_written()
    assert (made["model"], made["options"]["max_new_tokens"]) == ("tiny", 200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page_and_an_open_panel_shut_nobody_out(browser, teller, scheme):
    assert AXE.exists(), "axe-core is missing: `make node_modules/ready-dev` fetches it."
    with opened(browser, teller, color_scheme=scheme, **WIDE) as window:
        page = window.page
        page.goto(teller.url)
        page.wait_for_selector(".acts.ready")
        page.evaluate(AXE.read_text())
        assert not (found := judge(page)), found
        page.click(WORD)
        page.wait_for_selector(".demo .bars")
        assert not (found := judge(page)), found
        page.goto(teller.url + "/models/storyteller")
        page.evaluate(AXE.read_text())
        assert not (found := judge(page)), found


def test_without_a_script_the_run_is_there_and_a_beginning_makes_one(browser, teller):
    with opened(browser, teller, java_script_enabled=False) as window:
        page = window.page
        page.goto(teller.url)
        assert page.locator(".demo .continuation").inner_text().startswith(" He did not know where it was")
        assert not page.is_visible("text=Press a red word")
        page.click(".example button >> nth=0")
        page.wait_for_url("**/r/*")
        assert "last door" in page.inner_text("#story")
