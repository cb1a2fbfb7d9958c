"""One sheet in a real Chromium: what is typed, pasted and composed, by keyboard and by mouse, and what a lost line does."""

import json
import re

import pytest
from browser import Window, opened, unfold
from conftest import in_editor
from waiting import until

RED = "[...document.querySelectorAll('#editor .red')].map(mark => mark.textContent).join('')"
PASTE = """text => {
  const data = new DataTransfer();
  data.setData('text/plain', text);
  document.querySelector('.cm-content').dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
}"""


@pytest.fixture
def page(window):
    return window.page


def state(window) -> dict:
    """The sheet as the server has it."""
    address = window.page.evaluate("location.href.split('?')[0]")
    return json.loads(window.context.request.get(f"{address}/state").text())


def stored(window) -> str:
    """The sheet's text as the server has it; nothing while it has no address."""
    if "/s/" not in window.page.evaluate("location.pathname"):
        return ""
    return "".join(
        span.get("text", "") + "".join(text for text, _, _ in span.get("cells", ())) for span in state(window)["spans"]
    )


def is_stored(window, text):
    """Wait for what the editor shows to be on the server."""
    until(lambda: in_editor(stored(window)) == text, what=f"{text!r} on the server")


def written(window, prompt="Once upon a time", tokens=12) -> str:
    """A sheet in which a model wrote; returns what."""
    window.type(prompt, f"/?model=storyteller&max_new_tokens={tokens}&seed=1")
    window.page.keyboard.press("Control+Enter")
    return window.wait_until_written()["samples"][0]["text"]


def slow(window):
    """A sheet in which a model is writing for long."""
    window.type("Once upon a time", "/?model=slow&max_new_tokens=4096&seed=1")
    window.page.keyboard.press("Control+Enter")
    until(lambda: len(window.page.evaluate(RED)) > 40)


def caret(page, back=0):
    """At the text's end, or so many characters before it."""
    page.keyboard.press("Control+End")
    for _ in range(back):
        page.keyboard.press("ArrowLeft")


def second_window(window, text):
    """A window more on a sheet with a text."""
    window.type(text)
    is_stored(window, text)
    second = window.context.new_page()
    second.goto(window.page.url)
    second.wait_for_selector(".acts.ready")
    return second


def test_the_caret_is_in_an_empty_sheet_and_typing_gives_it_an_address(window, page):
    window.type("")
    assert page.evaluate("document.activeElement.className").startswith("cm-content")
    page.keyboard.type("the king")
    is_stored(window, "the king")
    assert re.fullmatch(r"/s/[\w-]{16}", page.evaluate("location.pathname"))
    window.reload()
    assert window.text() == "the king"


@pytest.mark.long
def test_what_is_typed_and_pressed_before_the_script_is_there_is_done_by_it(window, page):
    held = []
    page.route("**/sheet.min.js*", lambda route: held.append(route))
    page.goto(window.server.url + "/?model=storyteller")
    page.locator("#prompt").press_sequentially("Early birds")
    page.keyboard.press("Control+Enter")
    until(lambda: held)
    held[0].continue_()
    until(lambda: window.text().startswith("Early birds"))
    assert window.wait_until_written()["prompt"]["text"] == "Early birds"


def test_what_the_model_writes_is_red_in_the_same_page(window, page):
    page.goto(f"{window.server.url}/?model=storyteller&max_new_tokens=30&seed=1")
    page.evaluate("window.stayed = true")
    page.keyboard.insert_text("the old king")
    page.keyboard.press("Control+Enter")
    text = window.wait_until_written()["samples"][0]["text"]
    until(lambda: window.text() == "the old king" + text)
    assert page.evaluate(RED) == text.replace("\n", "")
    assert page.evaluate("window.stayed") is True
    assert page.evaluate("getComputedStyle(document.querySelector('#editor .red')).color") == "rgb(163, 22, 33)"
    assert page.evaluate("getComputedStyle(document.querySelector('.cm-content')).color") == "rgb(28, 25, 21)"


@pytest.mark.parametrize(
    "text", ["从前有一只狐狸", "🦊👨‍👩‍👧é", "one\r\ntwo\rthree\n", "<b>&amp;</b>  \t two  spaces ", "שועל אחד"]
)
def test_any_text_can_be_pasted_and_is_stored_as_it_is(window, page, text):
    window.type("a")
    page.evaluate(PASTE, text)
    page.keyboard.type("z")
    wanted = f"a{text}z".replace("\r\n", "\n").replace("\r", "\n")
    assert window.text() == wanted
    is_stored(window, wanted)
    window.reload()
    assert window.text() == wanted


def test_half_of_an_emoji_is_never_sent(window, page):
    window.type("🦊")
    is_stored(window, "🦊")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.insert_text("🐺")  # the same first half
    is_stored(window, "🐺")


def test_cut_and_drag_take_text_along(window, page):
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    window.type("king old the ")
    for _ in "the ":
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Control+x")
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+v")
    is_stored(window, "the king old ")


def test_an_input_method_composes_and_only_what_it_gives_is_stored(window, page):
    window.type("ab")
    is_stored(window, "ab")
    caret(page, back=1)
    client = window.context.new_cdp_session(page)
    sent = []
    page.on("request", lambda request: sent.append(request.post_data) if request.url.endswith("/edits") else None)
    for letters in ("n", "ni", "ni h", "ni hao"):
        client.send(
            "Input.imeSetComposition", {"text": letters, "selectionStart": len(letters), "selectionEnd": len(letters)}
        )
        page.wait_for_timeout(400)  # longer than the quiet after which typing is sent
    assert window.text() == "ani haob"
    assert sent == []
    client.send("Input.insertText", {"text": "你好"})
    is_stored(window, "a你好b")
    assert window.text() == "a你好b"


@pytest.mark.long
def test_what_is_written_meanwhile_waits_for_an_input_method(window, page):
    slow(window)
    page.keyboard.press("Control+Home")
    client = window.context.new_cdp_session(page)
    client.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    before = window.text()
    page.wait_for_timeout(1500)
    assert window.text() == before
    client.send("Input.insertText", {"text": "你"})
    until(lambda: window.text().startswith("你Once") and len(window.text()) > len(before) + 20)
    assert state(window)["open"], "typing before what is written lets it go on"
    page.keyboard.press("Escape")


def test_typing_within_a_word_makes_it_black_and_leaves_the_others_red(window, page):
    text = written(window)
    caret(page, back=len(text) - 2)  # behind the second of the first word's characters, a space and a letter
    page.keyboard.type("X")
    is_stored(window, "Once upon a time" + text[:2] + "X" + text[2:])
    red = page.evaluate(RED)
    assert red
    assert text.replace("\n", "").endswith(red)
    window.reload()
    assert page.evaluate(RED) == red


def test_typing_at_its_border_leaves_a_word_red(window, page):
    text = written(window)
    caret(page, back=len(text))
    page.keyboard.type(" X")
    is_stored(window, "Once upon a time X" + text)
    assert page.evaluate(RED) == text.replace("\n", "")


PIECES = "[...document.querySelectorAll('#editor .red')].map(piece => [piece.textContent, piece.isDrawn === true])"


@pytest.mark.long
def test_a_long_paragraph_is_drawn_in_pieces_of_whole_words_and_a_key_leaves_all_but_its_own(window, page):
    window.type(
        "Once upon a time", "/?model=storyteller&max_new_tokens=350&min_new_tokens=350&seed=1&banned_phrases=%5Cn"
    )
    page.keyboard.press("Control+Enter")
    text = window.wait_until_written()["samples"][0]["text"]
    pieces = [piece for piece, _ in page.evaluate(PIECES)]
    assert "".join(pieces) == text
    assert len(pieces) == 4
    assert [piece[0] for piece in pieces] == [" "] * 4
    page.evaluate("document.querySelectorAll('#editor .red').forEach(piece => { piece.isDrawn = true; })")
    page.keyboard.press("Control+Home")
    page.keyboard.type("x")
    assert page.evaluate(PIECES) == [[piece, True] for piece in pieces]
    caret(page, back=len(pieces[3]) // 2)
    page.keyboard.type("x")
    assert page.evaluate(PIECES)[:3] == [[piece, True] for piece in pieces[:3]]


def test_typing_into_what_is_written_stops_it_there(window, page):
    slow(window)
    page.keyboard.type("END")
    shown = window.text()
    assert shown.endswith("END")
    is_stored(window, shown)
    page.wait_for_timeout(500)
    assert window.text() == shown
    assert state(window)["open"] is None


@pytest.mark.long
def test_typing_before_it_lets_it_write_on(window, page):
    slow(window)
    page.keyboard.press("Control+Home")
    page.keyboard.type("Well: ")
    length = len(window.text())
    until(lambda: len(window.text()) > length + 40)
    page.keyboard.press("Escape")
    window.wait_until_written()
    is_stored(window, window.text())
    assert window.text().startswith("Well: Once upon a time")


def test_the_button_stays_in_its_place_while_it_says_stop(window, page):
    window.type("Once upon a time", "/?model=slow&max_new_tokens=4096&seed=1")
    before = page.locator("#write-on").bounding_box()
    assert page.inner_text("#write-on").startswith("Write on")
    page.click("#write-on")
    until(lambda: len(window.page.evaluate(RED)) > 5)
    assert page.inner_text("#write-on").startswith("Stop")
    assert page.locator("#write-on").bounding_box() == before
    page.click("#write-on")
    window.wait_until_written()
    assert state(window)["open"] is None


def test_with_text_behind_the_caret_it_is_set_aside_and_can_be_put_back(window, page):
    window.type("the old king said", "/?model=storyteller&max_new_tokens=5&seed=1")
    caret(page, back=len(" said"))
    page.keyboard.press("Control+Enter")
    text = window.wait_until_written()["samples"][0]["text"]
    until(lambda: window.text() == "the old king" + text)
    assert page.inner_text(".aside p") == " said"
    assert page.inner_text("#sheet-status").startswith("Stopped")
    page.focus(".cm-content")
    caret(page, back=1)
    until(lambda: page.inner_text("#sheet-status").startswith("Write on goes on from the caret"))
    page.click("text=Put back")
    until(lambda: window.text() == "the old king" + text + " said")
    assert not page.is_visible(".aside")


def test_the_model_goes_on_behind_a_text_that_came_along(window, page):
    """From an address, and from a run of before; nothing is set aside."""
    page.goto(f"{window.server.url}/?prompt=Far+out+at+sea+🦊&model=storyteller&max_new_tokens=5&seed=1")
    page.wait_for_selector(".cm-content")
    page.keyboard.press("Control+Enter")
    run = window.wait_until_written()
    assert run["prompt"]["text"] == "Far out at sea 🦊"
    until(lambda: window.text() == "Far out at sea 🦊" + run["samples"][0]["text"])
    page.goto(run["url"])
    page.click("text=Write on in a sheet")
    page.wait_for_selector(".cm-content")
    page.click("#write-on")
    again = window.wait_until_written()
    assert again["prompt"]["text"] == "Far out at sea 🦊" + run["samples"][0]["text"]
    assert not page.is_visible(".aside")


def test_undo_and_redo_take_back_typing_and_writing_also_after_a_reload(window, page):
    text = written(window)
    page.keyboard.type(" and")
    page.keyboard.press("Control+z")
    until(lambda: window.text() == "Once upon a time" + text)
    window.reload()
    page.wait_for_selector("[data-do=undo][aria-disabled=false]")
    page.focus(".cm-content")
    page.keyboard.press("Control+z")
    until(lambda: window.text() == "Once upon a time")
    page.keyboard.press("Control+Shift+z")
    until(lambda: window.text() == "Once upon a time" + text)
    assert page.evaluate(RED) == text.replace("\n", "")
    page.keyboard.press("Control+y")
    until(lambda: window.text() == "Once upon a time" + text + " and")
    assert page.get_attribute("[data-do=redo]", "aria-disabled") == "true"


def test_typing_can_be_taken_back_again_after_all_was_and_a_key_held_too_long_says_nothing(window, page):
    window.type("one")
    is_stored(window, "one")
    page.keyboard.press("Control+z")
    until(lambda: window.text() == "")
    page.keyboard.insert_text("two")
    is_stored(window, "two")
    page.wait_for_selector("[data-do=undo][aria-disabled=false]")
    assert page.get_attribute("[data-do=redo]", "aria-disabled") == "true"
    for _ in range(5):
        page.keyboard.press("Control+z")
    until(lambda: window.text() == "")
    for _ in range(5):
        page.keyboard.press("Control+y")
    until(lambda: window.text() == "two")
    is_stored(window, "two")
    assert page.inner_text("#problem") == ""


def test_retry_writes_anew_in_place_and_the_tries_can_be_flipped(window, page):
    window.type("Once upon a time", "/?model=storyteller&max_new_tokens=8")
    page.keyboard.press("Control+Enter")
    first = window.wait_until_written()["samples"][0]["text"]
    until(lambda: window.text() == "Once upon a time" + first)
    page.keyboard.press("Alt+r")
    page.wait_for_selector("text=2 / 2")
    second = window.wait_until_written()["samples"][0]["text"]
    until(lambda: window.text() == "Once upon a time" + second)
    page.keyboard.press("Alt+PageUp")
    until(lambda: window.text() == "Once upon a time" + first)
    page.click("[data-do=next]")
    until(lambda: window.text() == "Once upon a time" + second)
    assert page.inner_text("#versions summary") == "Versions (2)"


def test_another_word_is_chosen_in_the_panel_of_the_word_that_is_pressed(window, page):
    written(window, tokens=20)
    page.locator("#editor .red").first.click()
    page.wait_for_selector("#token .bars")
    chosen = page.locator("#token .bars button").nth(3)
    word = chosen.locator(".name").inner_text().replace("␣", " ")
    chosen.click()
    page.wait_for_selector("text=2 / 2")
    run = window.wait_until_written()
    assert run["prompt"]["text"].endswith(word)
    until(lambda: window.text() == run["prompt"]["text"] + run["samples"][0]["text"])
    assert page.locator("#token .bars").count() == 0


def test_by_keyboard_the_tab_key_leaves_the_text_and_alt_enter_opens_the_panel(window, page):
    written(window)
    page.keyboard.press("Control+End")
    page.keyboard.press("Alt+Enter")
    page.wait_for_selector("#token .bars")
    until(lambda: page.evaluate("!!document.activeElement.closest('#token')"))
    page.keyboard.press("Escape")
    assert page.locator("#token .bars").count() == 0
    page.focus(".cm-content")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "write-on"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.className").startswith("cm-content")


def test_what_is_kept_in_mind_the_settings_and_the_lens_are_there_after_a_reload(window, page):
    written(window)
    page.click("text=Keep in mind")
    page.fill("#memory", "The fox is called Alder.")
    page.check("[name=lens][value=rank]")
    unfold(page)
    page.fill("[name=temperature]", "0.5")
    page.keyboard.press("Tab")
    until(lambda: (s := state(window))["memory"] and s["lens"] == "rank" and s["options"]["temperature"] == "0.5")
    window.reload()
    assert page.input_value("#memory") == "The fox is called Alder."
    assert page.is_checked("[name=lens][value=rank]")
    assert page.input_value("[name=temperature]") == "0.5"
    until(lambda: page.evaluate("[...CSS.highlights.keys()].some((name) => name.startsWith('k'))"))


@pytest.mark.long
def test_what_is_chosen_on_a_new_page_before_anything_is_typed_is_there_after_a_reload(window, page):
    page.goto(window.server.url)
    page.wait_for_selector(".acts.ready")
    page.eval_on_selector("[name=lens][value=rank]", "lens => lens.click()")  # it is seen once there is a text
    unfold(page)
    page.select_option("[name=model]", "storyteller")
    page.fill("[name=temperature]", "0.5")
    page.keyboard.press("Tab")
    page.reload()
    page.wait_for_selector(".acts.ready")
    assert page.evaluate("location.pathname") == "/", "no sheet is made of nothing"
    assert page.is_checked("[name=lens][value=rank]")
    assert page.input_value("[name=model]") == "storyteller"
    assert page.input_value("[name=temperature]") == "0.5"
    page.click("text=Keep in mind")
    page.fill("#memory", "The fox is called Alder.")
    page.wait_for_url("**/s/*")
    page.reload()
    page.wait_for_selector(".acts.ready")
    assert page.input_value("#memory") == "The fox is called Alder."
    assert page.is_checked("[name=lens][value=rank]")
    assert (page.input_value("[name=model]"), page.input_value("[name=temperature]")) == ("storyteller", "0.5")


@pytest.mark.long
@pytest.mark.parametrize("where", ["#memory", ".cm-content"])
def test_what_was_typed_to_be_kept_in_mind_just_before_a_press_goes_to_the_model(window, page, where):
    window.type("Once upon a time", "/?model=storyteller&max_new_tokens=5&seed=1")
    page.click("text=Keep in mind")
    for count, memory in enumerate(("The fox is called Alder.", "The fox is called Rowan."), 1):
        page.fill("#memory", memory)
        page.focus(where)
        page.keyboard.press("Control+Enter")
        page.wait_for_url("**/s/*")
        until(lambda: (s := state(window))["version_count"] == count and s["open"] is None, what="a writing")  # noqa: B023
        assert window.wait_until_written()["prompt"]["text"].startswith(memory + "\n")  # else the next press stops it
    for expected in ("The fox is called Rowan.", "The fox is called Alder."):
        until(lambda: page.input_value("#memory") == expected)  # noqa: B023
        page.click("[data-do=undo]")
        page.click("[data-do=undo]")


@pytest.mark.long
def test_a_second_window_follows_what_is_to_be_kept_in_mind_and_overwrites_nothing_without_a_word(browser, server):
    window = Window(browser, server)  # Chromium itself notes in its console that one of them was told of the other
    page, second = window.page, second_window(window, "one")
    for one in (page, second):
        one.click("text=Keep in mind")
    page.fill("#memory", "a fox")
    until(lambda: second.input_value("#memory") == "a fox")
    held = []
    second.route("**/state", lambda route: held.append(route))  # it hears late
    page.fill("#memory", "a hen")
    until(lambda: second.wait_for_timeout(20) or held, what="news for the second window")
    second.fill("#memory", "a fox, Rei")
    for route in held:
        route.continue_()
    second.unroute("**/state")
    until(lambda: page.input_value("#memory") == "a fox, Rei")
    said = "What is to be kept in mind was changed in another window too"
    until(lambda: second.inner_text("#sheet-status").startswith(said))
    page.click("[data-do=undo]")
    until(lambda: page.input_value("#memory") == second.input_value("#memory") == "a hen")
    window.context.close()


@pytest.mark.long
def test_all_versions_are_counted_and_the_older_ones_come_when_they_are_asked_for(window, page):
    window.type("one", "/?model=tiny&max_new_tokens=1&min_new_tokens=1")
    for count in range(1, 53):
        page.keyboard.press("Control+Enter")
        page.wait_for_url("**/s/*")
        until(lambda: (s := state(window))["version_count"] == count and s["open"] is None)  # noqa: B023
        page.wait_for_selector(".acts:not(.writing) #write-on[aria-busy=false]")  # a press before it has heard is none
    page.reload()
    unfold(page)
    page.click("text=Versions (52)")
    until(lambda: page.locator("#versions li").count() == 50)
    page.click("text=Show older ones")
    until(lambda: page.locator("#versions li").count() == 52)
    assert not page.is_visible("text=Show older ones")
    runs = page.evaluate("[...document.querySelectorAll('#versions a')].map((link) => link.href)")
    assert len(set(runs)) == 52


@pytest.mark.long
def test_the_window_s_edge_is_drawn_when_a_writing_ends_and_when_another_model_is_chosen(window, page):
    window.type("the old king " * 4, "/?model=tiny&max_new_tokens=90&min_new_tokens=90&seed=1")
    page.keyboard.press("Control+Enter")
    window.wait_until_written()
    page.wait_for_selector(".edge")
    unfold(page)
    page.select_option("[name=model]", "storyteller")
    until(lambda: page.locator(".edge").count() == 0)
    page.select_option("[name=model]", "tiny")
    page.wait_for_selector(".edge")


@pytest.mark.long
def test_a_run_with_special_tokens_and_a_page_come_back_to_can_be_typed_in(window, page):
    run = window.write("Once upon<|endoftext|> a time", parse_special="on", max_new_tokens=5)
    window.wait_until_over()
    text = "Once upon<|endoftext|> a time" + window.stored(run)["samples"][0]["text"]
    page.click("text=Write on in a sheet")
    page.wait_for_selector(".acts.ready")
    assert window.text() == text
    assert page.evaluate(RED)
    unfold(page)
    page.click("text=How surprising is my text?")
    page.wait_for_url("**/r/*")
    page.go_back()
    page.wait_for_selector(".acts.ready")
    until(lambda: window.text() == text)
    caret(page)
    page.keyboard.type(" and")
    is_stored(window, text + " and")
    assert page.evaluate(RED)


def test_a_second_window_follows_and_what_is_typed_there_takes_over(window, page, browser):
    second = second_window(window, "one")
    second.keyboard.press("Control+End")
    second.keyboard.type(" two")
    until(lambda: window.text() == "one two")
    assert page.inner_text("#sheet-status") == "Changed in another window; this one follows."
    page.bring_to_front()
    caret(page)
    page.keyboard.type(" three")
    until(lambda: second.inner_text(".cm-content") == "one two three")


def test_both_windows_type_at_once_and_nothing_is_lost(browser, server):
    window = Window(browser, server)  # Chromium itself notes in its console that one of them was told of the other
    page, second = window.page, second_window(window, "middle")
    second.focus(".cm-content")
    second.keyboard.press("Control+Home")
    caret(page)
    second.keyboard.insert_text("first ")
    page.keyboard.insert_text(" last")
    until(lambda: window.text() == second.inner_text(".cm-content") == "first middle last")
    is_stored(window, "first middle last")
    window.context.close()


def test_a_friend_sees_what_is_written_and_what_they_type_is_in_a_sheet_of_their_own(window, page, browser, server):
    slow(window)
    caret(page)
    with opened(browser, server) as friend:
        friend.page.goto(page.url)
        length = len(friend.text())
        until(lambda: len(friend.text()) > length + 40)
        page.keyboard.press("Escape")
        window.wait_until_written()
        page.keyboard.type(" a secret")
        text = window.text()
        is_stored(window, text)
        public = text.removesuffix(" a secret")
        # within a second; less than the six after which a page that heard nothing would ask anew
        until(lambda: friend.text() == public, 5, lambda: f"{friend.text()!r}, {friend.errors}, as {public!r}")
        assert friend.page.inner_text("#sheet-status").startswith("Somebody else’s sheet")
        friend.page.keyboard.press("Control+End")
        friend.page.keyboard.type(" of mine")
        is_stored(friend, public + " of mine")
        assert friend.page.url != page.url
        assert friend.page.inner_text("#sheet-status").startswith("This is a sheet of your own now")
        assert in_editor(stored(window)) == text
        with friend.page.expect_event("load"):
            friend.page.go_back()
        until(lambda: friend.text() == public, what="the text that was copied")
        assert friend.page.url == page.url


def test_only_reading_leads_away_and_back_the_sheet_can_be_typed_in(window, page):
    text = "Once upon a time" + written(window)
    address = page.url
    unfold(page)
    page.click("text=How surprising is my text?")
    page.wait_for_url("**/r/*")
    page.go_back()
    page.wait_for_url(address)
    until(lambda: window.text() == text)
    page.focus(".cm-content")
    caret(page)
    page.keyboard.type(" more")
    is_stored(window, text + " more")


def test_without_a_connection_typing_and_presses_are_kept_said_and_sent_later(browser, server):
    window = Window(browser, server)  # Chromium itself notes that it is offline in its console
    page = window.page
    window.type("the old", "/?model=storyteller&max_new_tokens=5&seed=1")
    is_stored(window, "the old")
    window.context.set_offline(True)
    page.keyboard.type(" king")
    until(lambda: page.inner_text("#sheet-status").startswith("You are offline."))
    page.keyboard.press("Control+Enter")
    assert window.text() == "the old king"
    window.context.set_offline(False)
    text = window.wait_until_written()["samples"][0]["text"]
    until(lambda: window.text() == in_editor(stored(window)) == "the old king" + text)
    assert not page.inner_text("#sheet-status").startswith("You are offline.")
    window.context.close()


def test_an_answer_that_is_lost_does_nothing_twice(window, page):
    window.type("the old")
    is_stored(window, "the old")
    lost = []

    def lose(route):
        if lost:
            return route.continue_()
        lost.append(route.fetch())  # the server has done it
        return route.fulfill(status=502)

    page.route("**/edits", lose)
    page.on("console", lambda message: window.errors.clear())  # Chromium notes the 502
    page.keyboard.type(" king")
    is_stored(window, "the old king")
    page.keyboard.type(" said")
    is_stored(window, "the old king said")
    window.errors.clear()


def test_typing_that_was_not_sent_yet_is_sent_when_the_page_is_left(window, page):
    window.type("one")
    is_stored(window, "one")
    address = page.url
    page.keyboard.insert_text(" two")
    page.goto("about:blank")
    page.goto(address)
    until(lambda: window.text() == "one two")


def test_what_goes_behind_a_slow_answer_as_another_window_is_chosen_is_stored_once(window, page):
    window.type("one")
    is_stored(window, "one")
    held = []
    page.route("**/edits", lambda route: held.append((route, route.fetch())), times=1)
    page.keyboard.insert_text(" two")
    until(lambda: page.wait_for_timeout(20) or held, what="a request whose answer is under way")
    page.keyboard.insert_text(" three")
    with page.expect_request("**/edits") as behind:
        page.evaluate("dispatchEvent(new Event('blur'))")
    assert behind.value.resource_type == "ping"
    page.keyboard.insert_text(" four")
    held[0][0].fulfill(response=held[0][1])
    is_stored(window, "one two three four")
    assert window.text() == "one two three four"
    page.wait_for_timeout(700)
    window.reload()
    assert window.text() == "one two three four"


def test_the_editors_style_has_a_nonce_that_is_new_in_each_answer_and_nothing_else_may_be_written(window, page):
    policies = [page.goto(window.server.url).headers["content-security-policy"] for _ in range(2)]
    nonces = [re.search(r"style-src 'self' 'nonce-([\w-]{22})';", policy)[1] for policy in policies]
    assert nonces[0] != nonces[1]
    assert policies[0].replace(nonces[0], "") == policies[1].replace(nonces[1], "")
    run = window.write("Once", max_new_tokens=3)
    assert "nonce" not in page.goto(run).headers["content-security-policy"]


def test_nothing_is_loaded_from_elsewhere_and_a_first_visit_takes_under_400_kb(window, page):
    client = window.context.new_cdp_session(page)
    client.send("Network.enable")
    sizes = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(window.server.url)
    page.wait_for_load_state("networkidle")
    assert sum(sizes) < 400_000
    assert {url.split("/")[2] for url in window.asked} == {window.server.url.split("/")[2]}


@pytest.mark.parametrize("window", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_nothing_of_a_sheet_is_wider_than_a_phone(window, page):
    window.type("A " + "verylongwordwithoutanyspace" * 12, "/?model=storyteller&max_new_tokens=5&seed=1")
    page.keyboard.press("Control+Enter")
    window.wait_until_written()
    page.locator("#editor .red").first.click()
    page.wait_for_selector("#token .bars")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
