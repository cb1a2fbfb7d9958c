"""What a person sees: a real Chromium against a real gunicorn."""

import shutil
import urllib.request

import pytest
from browser import Window, opened, unfold
from conftest import TRICKY, in_editor, pictured
from waiting import until

GROWTH = """
window.steps = [];
new MutationObserver(() => {
  const length = document.querySelector('.continuation')?.textContent.length ?? 0;
  if (window.steps.at(-1) !== length) window.steps.push(length);
}).observe(document, {subtree: true, childList: true, characterData: true});
"""


@pytest.fixture
def window(window):
    window.page.add_init_script(GROWTH)
    yield window
    assert {url.split("/")[2] for url in window.asked} == {window.server.url.split("/")[2]}, (
        "a request left the machine"
    )


@pytest.fixture
def second(browser, server):
    with opened(browser, server) as window:
        yield window


def test_the_text_grows_in_steps_in_its_colour_and_equals_what_is_stored(window):
    url = window.write("Once upon a time", max_new_tokens=200, seed=1)
    window.wait_until_over()
    steps = window.page.evaluate("window.steps")
    assert len(steps) > 4
    assert steps == sorted(steps)
    assert window.story() == pictured(window.stored(url)["samples"][0]["text"])
    colours = window.page.evaluate(
        "['.prompt', '.continuation'].map(s => getComputedStyle(document.querySelector(s))).map(c => [c.color, c.fontWeight])"
    )
    (black, heavy), (red, light) = colours
    assert black == "rgb(28, 25, 21)"
    assert red == "rgb(163, 22, 33)"
    assert int(heavy) > int(light), "without colour the two are told apart by weight"


def contrast(window, selector) -> float:
    return window.page.evaluate(
        """selector => {
          const rgb = c => c.match(/[0-9.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const node = document.querySelector(selector);
          let back = node;
          while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
          const [a, b] = [getComputedStyle(node).color, getComputedStyle(back).backgroundColor].map(c => light(rgb(c)));
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_inks_can_be_read_in_light_and_dark(browser, server, scheme):
    window = Window(browser, server, color_scheme=scheme)
    window.write("The king", max_new_tokens=5)
    window.wait_until_over()
    for selector in (".prompt", ".continuation", ".status", "#tools button", ".facts summary", ".doing .sharing"):
        assert contrast(window, selector) >= 4.5, selector
    window.context.close()


@pytest.mark.parametrize(
    "prompt", [TRICKY.replace("\r\n", "\n"), "\n\n two   spaces\n", "\t<script>alert('x')</script>\n&amp;", "从前 🦊\n"]
)
def test_any_text_is_shown_byte_for_byte(window, prompt):
    url = window.write(prompt, max_new_tokens=60, temperature=3, top_k=0, seed=7)
    window.wait_until_over()
    stored = window.stored(url)
    assert stored["prompt"]["text"] == prompt
    shown = window.page.evaluate("document.getElementById('story').textContent")
    assert shown == pictured(prompt + stored["samples"][0]["text"])
    window.page.reload()
    assert window.page.evaluate("document.getElementById('story').textContent") == shown
    assert urllib.request.urlopen(url + ".txt").read().decode() == prompt + stored["samples"][0]["text"]


def test_escape_stops_the_run_and_keeps_its_text(window):
    url = window.write("Once", model="slow", max_new_tokens=4096)
    until(lambda: len(window.story()) > 100)
    window.page.keyboard.press("Escape")
    window.wait_until_over()
    stored = window.stored(url)
    assert stored["samples"][0]["finish_reason"] == "cancelled"
    assert window.story() == pictured(stored["samples"][0]["text"])


def test_a_reload_in_mid_stream_loses_and_repeats_nothing(window):
    url = window.write("Once upon a time 从前", model="slow", max_new_tokens=4096)
    for _ in range(3):
        window.grows()
        window.page.reload()
    assert window.stored(url)["state"] == "writing"
    window.page.keyboard.press("Escape")
    window.wait_until_over()
    assert window.story() == pictured(window.stored(url)["samples"][0]["text"])


def test_a_friend_sees_the_same_run_live_but_cannot_stop_it(window, second):
    url = window.write("Once upon a time", model="slow", max_new_tokens=4096)
    second.page.goto(url)
    second.grows()
    assert second.page.query_selector("#stop") is None
    second.page.keyboard.press("Escape")
    second.grows(50)
    assert not [address for address in second.asked if "stop" in address]
    assert window.stored(url)["state"] == "writing"
    window.page.keyboard.press("Escape")
    window.wait_until_over()
    second.wait_until_over()
    assert second.story() == window.story() == pictured(window.stored(url)["samples"][0]["text"])


@pytest.mark.long
def test_a_hidden_tab_that_is_shown_again_misses_nothing(window):
    """Nor while it is hidden: its stream stays open, as whoever hides a tab still watches."""
    url = window.write("Once upon a time", model="slow", max_new_tokens=4096)
    for _ in range(2):
        window.grows()
        window.hide(True)
        window.grows()
        window.hide(False)
    assert window.stored(url)["state"] == "writing"
    window.page.keyboard.press("Escape")
    window.wait_until_over()
    assert window.story() == pictured(window.stored(url)["samples"][0]["text"])


@pytest.mark.long
def test_several_samples_stream_together_over_one_connection(window):
    url = window.write("The king", samples=4, max_new_tokens=150)
    until(lambda: all(len(window.story(n)) > 20 for n in range(4)))
    assert not window.over()
    window.wait_until_over()
    streams = [address for address in window.asked if "/events" in address]
    stored = window.stored(url)
    assert [window.story(n) for n in range(4)] == [pictured(sample["text"]) for sample in stored["samples"]]
    assert len(streams) == 1
    window.page.click("#ending-2 button")
    window.page.wait_for_url(lambda address: address != url)
    window.wait_until_over()
    assert window.stored(window.page.url)["parent"] == {"id": url[-16:], "sample": 2, "relation": "continue"}


def test_continue_retry_and_edit_lead_on_without_a_page_load(window):
    first = window.write("Once upon a time", max_new_tokens=20, seed=3)
    window.wait_until_over()
    window.page.evaluate("window.stayed = true")
    window.page.click("text=Continue")
    window.page.wait_for_url(lambda url: url != first)
    window.wait_until_over()
    second = window.page.url
    text = window.stored(first)["samples"][0]["text"]
    assert window.stored(second)["prompt"]["text"] == "Once upon a time" + text
    window.page.click("text=Retry")
    window.page.wait_for_url(lambda url: url != second)
    window.wait_until_over()
    assert window.page.evaluate("window.stayed") is True
    assert window.stored(window.page.url)["parent"]["id"] == second[-16:]
    window.page.go_back()
    window.page.wait_for_url(second)
    until(lambda: window.story() == window.stored(second)["samples"][0]["text"])
    window.page.click("text=Edit the prompt")
    window.page.wait_for_selector(".cm-content")
    assert window.text() == "Once upon a time" + text


def test_a_button_puts_the_end_token_into_the_prompt_and_the_run_shows_a_chip(window):
    page = window.page
    window.type("HelloGoodbye")
    for _ in "Goodbye":
        page.keyboard.press("ArrowLeft")
    unfold(page)
    page.fill("[name=max_new_tokens]", "5")
    page.click("summary:has-text('More settings')")
    page.click("text=Put the end token in")
    assert window.text() == "Hello<|endoftext|>Goodbye"
    assert page.is_checked("[name=parse_special]")
    page.keyboard.press("Control+End")
    page.click("#write-on")
    window.wait_until_written()
    page.goto(page.evaluate("document.querySelector('.versions a').href"))
    assert page.inner_text("#prompt") == "HelloGoodbye", "the chip is no text that is copied"
    assert page.locator("#prompt .special").count() == 1
    assert page.locator("#prompt .special").bounding_box()["width"] > 30


def test_a_wrong_setting_says_so_and_keeps_what_was_typed(browser, server):
    window = Window(browser, server)  # Chromium itself notes the 422 in its console
    page = window.page
    window.type("my words")
    unfold(page)
    page.fill("[name=temperature]", "hot")
    page.click("#write-on")
    assert page.inner_text(".said") == "How bold: temperature must be a number from 0 to 5, not 'hot'."
    assert window.text() == "my words"
    assert page.input_value("[name=temperature]") == "hot"
    until(lambda: page.get_attribute("[name=temperature]", "aria-invalid") == "true")
    page.fill("[name=temperature]", "1")
    page.click("#write-on")
    written = window.wait_until_written()["samples"][0]["text"]
    page.reload()
    assert window.text() == in_editor("my words" + written)
    assert page.input_value("[name=temperature]") == "1"
    window.context.close()


def test_a_stream_that_never_begins_is_said_on_the_page(browser, server):
    window = Window(browser, server)
    window.page.route("**/events**", lambda route: route.abort())
    url = window.write("Once", model="slow", max_new_tokens=4096)  # a short run could be over before its page is there
    window.page.wait_for_selector("#lost", state="visible")
    assert window.page.inner_text("#lost") == "The connection was lost; this page is trying to come back…"
    window.page.keyboard.press("Escape")
    until(lambda: window.stored(url)["state"] == "done")
    window.context.close()


def test_the_keyboard_goes_on_at_the_new_page_s_beginning(window):
    first = window.write("Once", max_new_tokens=3)
    window.wait_until_over()
    window.page.click("text=Retry")
    window.page.wait_for_url(lambda url: url != first)
    until(lambda: window.page.evaluate("document.activeElement.id") == "main")


def test_choosing_another_model_loads_it_visibly(window, models):
    page, another = window.page, shutil.copytree(models / "tiny", models / "another")
    window.type("the old king")
    page.select_option("[name=model]", "another")
    assert "has to be loaded first" in page.inner_text("select option[value=another]")
    page.click("#write-on")
    assert window.wait_until_written()["model"] == "another"
    shutil.rmtree(another)


def test_without_scripts_the_form_and_the_plain_page_work(browser, server):
    window = Window(browser, server, java_script_enabled=False)
    page = window.page
    page.goto(server.url + "/?seed=1")
    assert page.locator(".scripted:visible").count() == 0
    page.fill("#prompt", "Once <b>upon</b>\n\na time")
    page.click("text=Write on")
    page.wait_for_url("**/r/*")
    url = page.url
    # Playwright's browser without scripts still hides <noscript>, where the link is (test_runs.py looks at it)
    page.goto(url + "/plain")
    stored = window.stored(url)
    assert stored["prompt"]["text"] == "Once <b>upon</b>\n\na time"
    assert page.locator(".story .continuation").text_content() == pictured(stored["samples"][0]["text"])
    assert window.errors == []
    window.context.close()


@pytest.mark.parametrize("path", ["/", "/r/", "/no-such-page"])
def test_nothing_is_wider_than_a_phone(browser, server, path):
    window = Window(browser, server, viewport={"width": 390, "height": 844})
    if path == "/r/":
        window.write("A " + "verylongwordwithoutanyspace" * 12, max_new_tokens=30, samples=3)
        window.wait_until_over()
    else:
        window.page.goto(server.url + path)
    assert window.page.evaluate("document.documentElement.scrollWidth") <= 390
    window.context.close()
