"""The settings as people set them: plain names first, a slider beside each number that shows what is in force."""

import re

import pytest
from browser import Window, unfold
from waiting import until

from generate import LISTS, OPTIONS, PRESETS, Group, find_preset
from webapp.views.sliders import grouped, stops_of

pytestmark = pytest.mark.long

NUMBERS = [option for option in OPTIONS if stops_of(option)]
CHIPS = "[...document.querySelectorAll('[data-empty]')].map((chip) => chip.firstChild.textContent)"
MARKED = "[...document.querySelectorAll('.differing input[name]')].map(one => one.name)"
PHONE = {"width": 390, "height": 780}
ZOOMED = {"width": 640, "height": 450}  # 1280 x 900 at 200 %
OUTSIDE = """[...document.querySelectorAll('#more *')].filter(one => one.checkVisibility())
  .filter(one => one.getBoundingClientRect().right > document.querySelector('#more').getBoundingClientRect().right)
  .filter(one => !one.closest('.unseen')).map(one => one.outerHTML)"""


@pytest.fixture
def page(window):
    window.page.set_default_timeout(10_000)
    return window.page


def opened(page, server, query="preset=steady"):
    page.goto(f"{server.url}/?{query}")
    page.wait_for_selector(".cm-content")
    unfold(page)


def slider(page, name):
    return page.locator(f"[data-slides={name}]")


def said(page, name) -> str:
    return slider(page, name).get_attribute("aria-valuetext")


def test_the_stops_of_a_slider_are_values_of_the_option_each_further_than_the_one_before():
    for option in NUMBERS:
        stops = stops_of(option)
        assert 5 <= len(stops) <= 64, option.name
        assert [option.parse(stop) for stop in stops] == list(stops), option.name
        *most, last = stops
        assert sorted(set(most)) == most, option.name
        assert last > most[-1] or last == option.off, option.name


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_what_a_preset_sets_and_what_is_usual_stands_at_a_stop(preset):
    values = {option.name: option.default for option in NUMBERS} | dict(preset.options)
    assert {
        name: value
        for name, value in values.items()
        if value not in stops_of(next(o for o in OPTIONS if o.name == name))
    } == {}


def test_the_form_has_every_option_once_by_what_it_is_for_its_plain_name_first(visitor):
    page = visitor.get("/").text
    names = [option.name for options in grouped().values() for option in options]
    assert sorted(names) == sorted(option.name for option in OPTIONS + LISTS)
    assert re.findall(r'<label for="option-\w+">[^<]+ <code>(\w+)</code>', page) == names
    assert all(f"{option.title} <code>{option.name}<" in page for option in OPTIONS + LISTS)
    marks = ('id="presets"', 'id="option-temperature"', "More settings", 'id="option-min_p"')
    assert [page.index(mark) for mark in marks] == sorted(map(page.index, marks))
    assert re.findall(r"<legend>([^<]+)</legend>", page) == list(Group)[1:]
    assert len(grouped()[Group.COMMON]) == 8, "few enough to be seen at once"


# With a script


def test_sliders_show_what_is_in_force_and_follow_the_preset_and_the_model(page, server):
    opened(page, server)
    for name, value in find_preset("steady").options.items():
        option = next(option for option in OPTIONS if option.name == name)
        text = "off" if value == option.off else f"{value:g}"
        assert said(page, name) == f"{text}, as the preset has it"
        assert int(slider(page, name).input_value()) == stops_of(option).index(value)
    page.check("[value=wild]")
    assert said(page, "temperature") == "1.2, as the preset has it"
    page.check("[value=model]")
    page.select_option("[name=model]", "storyteller")
    own = page.evaluate("JSON.parse(document.querySelector('[name=model]').selectedOptions[0].dataset.defaults)")
    assert own
    off = {option.name: option.off for option in OPTIONS}
    told = {name: "off" if value == off[name] else f"{value:g}" for name, value in own.items()}
    assert {name: said(page, name) for name in own} == {k: f"{text}, as the preset has it" for k, text in told.items()}
    page.select_option("[name=model]", "tiny")
    assert said(page, "temperature") == "0.8, as the preset has it"
    assert page.evaluate(MARKED) == []


def test_a_slider_moved_by_keyboard_fills_the_box_is_marked_and_can_be_put_back(page, server):
    opened(page, server)
    slider(page, "temperature").focus()
    page.keyboard.press("ArrowRight")
    assert (page.input_value("[name=temperature]"), said(page, "temperature")) == ("0.85", "0.85")
    assert page.evaluate(MARKED) == ["temperature"]
    assert page.evaluate(CHIPS) == ["How bold 0.85"]
    page.keyboard.press("ArrowLeft")
    assert page.input_value("[name=temperature]") == "", "what the preset has anyway is not set"
    assert page.evaluate(MARKED) == []
    page.keyboard.press("End")
    assert page.input_value("[name=temperature]") == "2"
    page.click("[data-reset=temperature]")
    assert page.input_value("[name=temperature]") == ""
    assert said(page, "temperature") == "0.8, as the preset has it"
    assert page.evaluate("document.activeElement.name") == "temperature", "the keyboard stays where it was"
    assert not page.is_visible("[data-reset=temperature]")


def test_a_chip_s_cross_moves_the_slider_back(page, server):
    opened(page, server, "preset=steady&temperature=1.5")
    assert said(page, "temperature") == "1.5"
    page.click("[data-empty=temperature]")
    assert said(page, "temperature") == "0.8, as the preset has it"
    assert page.evaluate(MARKED) == []


def test_off_is_said_as_off_and_stands_at_the_end_that_cuts_nothing(page, server):
    opened(page, server)
    slider(page, "top_k").focus()
    page.keyboard.press("End")
    assert said(page, "top_k") == "off, as the preset has it"
    assert page.locator(".option:has([name=top_k]) .off").is_visible()
    page.keyboard.press("ArrowLeft")
    assert page.input_value("[name=top_k]") == "2000"
    assert not page.locator(".option:has([name=top_k]) .off").is_visible()
    page.fill("[name=repetition_penalty]", "1.0")
    assert said(page, "repetition_penalty") == "off"
    assert page.evaluate(CHIPS) == ["How many to choose from 2000", "Fewer repeats off"]


def test_the_box_takes_more_than_the_slider_reaches(page, server):
    opened(page, server)
    page.fill("[name=top_k]", "50000")
    assert (said(page, "top_k"), page.input_value("[name=top_k]")) == ("50000", "50000")
    assert stops_of(next(o for o in OPTIONS if o.name == "top_k"))[int(slider(page, "top_k").input_value())] == 2000
    page.fill("[name=temperature]", "0.77")
    assert said(page, "temperature") == "0.77", "between two stops it is said as it is"


def test_the_length_in_the_bar_and_the_slider_are_one(page, server):
    opened(page, server)
    page.fill("#length", "300")
    assert said(page, "max_new_tokens") == "300"
    slider(page, "max_new_tokens").focus()
    page.keyboard.press("ArrowRight")
    assert page.input_value("#length") == "400"
    page.click("[data-reset=max_new_tokens]")
    assert page.input_value("#length") == ""


def test_what_a_slider_says_is_what_is_written_with_and_there_after_a_reload(window, page, server):
    window.type("Once upon a time", "/?model=tiny&max_new_tokens=5&seed=1")
    unfold(page)
    slider(page, "temperature").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Control+Enter")
    page.locator("#write-on").click()
    assert window.wait_until_written()["options"]["temperature"] == 0
    window.reload()
    page.wait_for_selector(".cm-content")
    assert (said(page, "temperature"), page.evaluate(MARKED)) == ("0", ["max_new_tokens", "temperature", "seed"])


def test_a_sheet_of_before_shows_what_was_stored_for_it(window, page, server):
    options = {"preset": "careful", "temperature": "1.10", "top_k": "0", "min_p": "much", "stop": "end", "samples": "3"}
    about = {"key": "o" * 22, "edits": [[0, 0, "An old sheet"]], "options": options}
    sheet = window.context.request.post(f"{server.url}/sheets", data=about).json()["id"]
    page.goto(f"{server.url}/s/{sheet}")
    page.wait_for_selector(".cm-content")
    assert page.is_visible("text=How bold 1.10")
    assert said(page, "temperature") == "1.1"
    assert said(page, "top_k") == "off, as the preset has it"
    assert page.input_value("[name=stop]") == "end"
    assert page.evaluate(MARKED) == ["temperature", "min_p", "samples"]


def test_what_is_no_number_stays_in_its_box_and_the_slider_says_so(browser, server):
    window = Window(browser, server)  # Chromium itself notes the 422 in its console
    page = window.page
    window.type("my words", "/?preset=steady")
    unfold(page)
    page.click("summary:has-text('More settings')")
    page.fill("[name=min_p]", "much")
    assert said(page, "min_p") == "“much” is no number"
    page.keyboard.press("Escape")
    page.click("#write-on")
    assert page.inner_text(".said") == "Leave out the far-fetched: min_p must be a number from 0 to 1, not 'much'."
    until(lambda: page.get_attribute("[name=min_p]", "aria-invalid") == "true")
    assert page.locator("[name=min_p]").is_visible()
    box, panel = page.locator("[name=min_p]").bounding_box(), page.locator("#more").bounding_box()
    assert panel["y"] <= box["y"] < panel["y"] + panel["height"], "it is in sight"
    slider(page, "min_p").focus()
    page.keyboard.press("ArrowRight")
    assert page.input_value("[name=min_p]") == "0.06", "the slider goes on from where the preset is"
    window.context.close()


def test_a_sheet_offers_no_slider_for_what_it_does_not_do(page, server):
    opened(page, server, "samples=4")
    assert page.is_visible("[name=n_keep]")
    assert not page.is_visible("[name=samples]")
    assert page.evaluate(CHIPS) == []


@pytest.mark.parametrize("window", [{"viewport": PHONE}, {"viewport": ZOOMED}], indirect=True, ids=["phone", "zoomed"])
def test_on_a_phone_and_at_twice_the_size_nothing_sticks_out_and_the_panel_scrolls(page, server):
    opened(page, server, "preset=steady&temperature=1.1&top_k=7&xtc_probability=0.5")
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    height = page.viewport_size["height"]
    panel = page.locator("#more").bounding_box()
    assert panel["y"] >= 0
    assert panel["height"] <= 0.7 * height
    slider(page, "temperature").scroll_into_view_if_needed()
    box = slider(page, "temperature").bounding_box()
    assert box["height"] >= 24, "a finger finds it"
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert page.input_value("[name=temperature]") == "2"


# Without a script


@pytest.mark.parametrize("window", [{"java_script_enabled": False}], indirect=True)
def test_without_a_script_the_numbers_are_typed_as_before(window, page, server):
    page.goto(f"{server.url}/?prompt=Once&model=tiny&max_new_tokens=3&seed=1")
    assert not page.is_visible("[name=temperature]"), "the settings are folded"
    page.click("summary:has-text('Settings') >> nth=0")
    assert page.locator("input[type=range]:visible, .reset:visible, .off:visible").count() == 0
    page.fill("[name=temperature]", "0.5")
    page.click("#write-on")
    page.wait_for_url("**/r/*")
    assert window.stored(page.url)["options"]["temperature"] == 0.5


def test_without_a_script_a_wrong_number_is_there_again_in_an_open_fold(browser, server):
    window = Window(browser, server, java_script_enabled=False)
    page = window.page
    page.goto(f"{server.url}/?prompt=Once&min_p=much")
    page.click("#write-on")
    assert page.inner_text(".said") == "Leave out the far-fetched: min_p must be a number from 0 to 1, not 'much'."
    assert page.is_visible("[name=min_p][aria-invalid=true]")
    assert page.input_value("[name=min_p]") == "much"
    window.context.close()
