"""Presets in a browser: what empty fields mean, chips for what differs, one's own presets, and a link to all of it."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from browser import Window, unfold

from generate import find_preset

STEADY = find_preset("steady").options
CHIPS = "[...document.querySelectorAll('[data-empty]')].map((chip) => chip.firstChild.textContent)"
COPIED = "document.querySelector('#differs [data-copy]').dataset.copy"
FORBIDDEN = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"


@pytest.fixture
def page(browser, server):
    window = Window(browser, server, viewport={"width": 390, "height": 800})
    window.page.set_default_timeout(10_000)
    yield window.page
    window.context.close()
    assert window.errors == []


def names(page) -> list[str]:
    return page.eval_on_selector_all("#presets label", "labels => labels.map((label) => label.textContent)")


def chosen(page) -> str:
    return page.text_content("#presets label:has(:checked)")


def test_empty_fields_say_what_the_preset_sets_and_a_chip_what_differs(page, server):
    page.goto(server.url)
    unfold(page)
    assert not page.is_visible("#differs")
    page.focus("[name=preset]:checked")
    page.keyboard.press("ArrowLeft")  # by keyboard, around the corner
    assert chosen(page) == "Steady"
    assert page.is_visible(f"text={find_preset('steady').meaning}")
    told = {name: float(page.get_attribute(f"[name={name}]", "placeholder")) for name in STEADY}
    assert told == STEADY
    assert page.inner_text("#preset-name") == "Steady"
    page.fill("[name=temperature]", "1.1")
    page.fill("[name=repetition_penalty]", f"{STEADY['repetition_penalty']}0")  # another writing of what it is anyway
    page.fill("[name=stop]", "<i>end\nDone")
    assert page.evaluate(CHIPS) == ["How bold 1.1", "Where to stop <i>end · Done"]
    page.click("[data-empty=temperature]")
    assert page.input_value("[name=temperature]") == ""
    assert page.evaluate(CHIPS) == ["Where to stop <i>end · Done"]
    assert page.evaluate("document.activeElement.dataset.empty") == "stop", "the keyboard goes on at the next chip"
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_preset_of_ones_own_is_kept_chosen_shared_and_forgotten(page, server, browser):
    page.goto(f"{server.url}/?preset=steady&temperature=1.1&seed=7")
    unfold(page)
    page.click("[data-keep]")
    page.fill("#keep-as", "<b>Bedtime</b>")
    page.keyboard.press("Enter")
    assert page.url.startswith(f"{server.url}/?"), "Enter in its name sends no form"
    assert chosen(page) == "<b>Bedtime</b>"
    page.goto(server.url)
    unfold(page)
    assert names(page) == ["The model’s own", "Careful", "Lively", "Wild", "Steady", "<b>Bedtime</b>"]
    page.check("[data-own]")
    assert (page.input_value("[name=temperature]"), page.input_value("[name=seed]")) == ("1.1", "")
    address = page.evaluate(COPIED)
    assert dict(parse_qsl(urlsplit(address).query)) == {"preset": "steady", "temperature": "1.1"}
    friend = browser.new_context().new_page()
    friend.goto(address)
    assert (chosen(friend), friend.evaluate(CHIPS)) == ("Steady", ["How bold 1.1"])
    friend.context.close()
    page.check("[value=wild]")
    assert page.input_value("[name=temperature]") == "", "what it filled in goes with it"
    page.check("[data-own]")
    page.click("#write-on")
    page.wait_for_selector(".versions a", state="attached")
    run = page.evaluate("document.querySelector('.versions a').href")
    options = page.request.get(f"{run}.json").json()["options"]
    assert (options["preset"], options["temperature"]) == ("steady", 1.1)
    page.reload()
    assert chosen(page) == "<b>Bedtime</b>"
    unfold(page)
    page.click("text=Forget it")
    assert (chosen(page), page.input_value("[name=temperature]")) == ("Steady", "1.1")
    page.goto(server.url)
    assert len(names(page)) == 5


def test_where_nothing_can_be_kept_all_else_works_and_a_sentence_says_so(page, server):
    page.add_init_script(FORBIDDEN)
    page.goto(f"{server.url}/?temperature=1.1")
    unfold(page)
    page.click("[data-keep]")
    page.fill("#keep-as", "mine")
    page.click("[data-kept]")
    assert page.is_visible("text=Your browser does not let this page keep anything")
    page.check("[value=wild]")
    assert page.evaluate(CHIPS) == ["How bold 1.1"]
    assert len(names(page)) == 5


def test_whatever_lies_in_the_browsers_memory_the_page_works(page, server):
    page.goto(server.url)
    for found in ("{", "7", '[null, {"name": "a"}]'):
        page.evaluate("found => localStorage.setItem('rubric-presets', found)", found)
        page.reload()
        unfold(page)
        page.check("[value=careful]")
        assert len(names(page)) == 5
    old = [{"name": "old", "preset": "gone", "values": {"top_k": 3, "nonsense": "x"}}]
    page.evaluate("old => localStorage.setItem('rubric-presets', JSON.stringify(old))", old)
    page.reload()
    unfold(page)
    page.check("[data-own=old]")
    assert page.input_value("[name=top_k]") == "3"
    assert page.evaluate("document.querySelector('[data-own=old]').value") == "model"
