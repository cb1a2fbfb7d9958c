"""The bar at the window's bottom, and what does not move while the model writes."""

import pytest
from browser import unfold
from waiting import until

PHONE = {"width": 390, "height": 780}
SHIFTS = """window.shifts = [];
new PerformanceObserver(list => {
  const told = ({node, previousRect: a, currentRect: b}) =>
    `${node?.nodeName} ${node?.className ?? node?.textContent} ${a.x},${a.y} -> ${b.x},${b.y}`;
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts.push([one.value, one.sources.map(told).join('; ')]);
}).observe({type: 'layout-shift', buffered: true})"""
NEWEST = "[...document.querySelectorAll('.cm-line')].at(-1).getBoundingClientRect().bottom / innerHeight"
WATCH = f"""() => {{
  window.places = [];
  const look = () => {{
    if (document.querySelector('.writing') && scrollY) window.places.push({NEWEST});
    requestAnimationFrame(() => scheduler.postTask(look, {{priority: 'user-blocking'}}));  // when the frame is painted
  }};
  look();
}}"""
TOPS = """[...document.querySelectorAll('.acts .row :is(button, select, input)')].filter(one => one.checkVisibility())
  .map(one => one.getBoundingClientRect()).map(box => Math.round((box.top + box.bottom) / 2))"""


@pytest.fixture
def page(window):
    return window.page


def write(window, tokens=60, model="storyteller", more=""):
    """Let a model write after some words; does not wait for its end."""
    window.type("Once upon a time", f"/?model={model}&max_new_tokens={tokens}&min_new_tokens={tokens}&seed=1{more}")
    window.page.keyboard.press("Control+Enter")


@pytest.mark.parametrize(
    "window",
    [pytest.param({}, id="wide"), pytest.param({"viewport": PHONE}, id="phone", marks=pytest.mark.long)],
    indirect=True,
)
def test_a_whole_writing_shifts_nothing_and_keeps_its_newest_line_in_one_place(window, page):
    page.add_init_script(SHIFTS)
    window.type("Once upon a time", "/?model=storyteller&max_new_tokens=400&min_new_tokens=400&seed=1")
    page.evaluate(WATCH)
    page.keyboard.press("Control+Enter")
    window.wait_until_written()
    places = page.evaluate("places")
    assert places
    assert [place for place in places if not 0.6 <= place <= 0.7] == []
    shifts = page.evaluate("shifts")
    assert sum(value for value, _ in shifts) < 0.02, shifts


@pytest.mark.parametrize("window", [{"viewport": {"width": 500, "height": 500}}], indirect=True)
@pytest.mark.long
def test_nothing_moves_under_a_reader_who_scrolled_up_until_they_come_back(window, page):
    write(window, tokens=4096, model="slow")
    until(lambda: page.evaluate("scrollY") > 50)
    page.mouse.move(250, 250)
    page.mouse.wheel(0, -100)
    until(lambda: page.evaluate(NEWEST) > 0.75)
    there, length = page.evaluate("scrollY"), len(window.text())
    until(lambda: len(window.text()) > length + 100)
    assert page.evaluate("scrollY") == there
    page.evaluate(f"scrollBy(0, ({NEWEST} - 0.6) * innerHeight)")  # to the newest line
    until(lambda: page.evaluate(NEWEST) > 0.6, what="the text at its place again")
    place = page.evaluate("scrollY")
    until(lambda: page.evaluate("scrollY") > place + 60, what="a text that is followed again")
    assert page.evaluate(NEWEST) <= 0.7
    page.keyboard.press("Escape")


def test_on_a_desk_all_of_the_bar_stands_in_one_row_also_where_there_are_models_with_longer_names(window, page):
    write(window)
    window.wait_until_written()
    tops = page.evaluate(TOPS.replace("select, input)", "select, input):not(.chips *)"))
    assert len(tops) >= 9
    assert max(tops) - min(tops) < 10


@pytest.mark.parametrize("window", [{"viewport": PHONE}], indirect=True)
def test_on_a_phone_the_bar_has_two_rows_and_a_third_of_chips_and_hides_nothing_of_the_text(window, page):
    write(window, more="&temperature=1.1&top_k=40")
    window.wait_until_written()
    tops = page.evaluate(TOPS.replace("select, input)", "select, input):not(.chips *)"))
    assert len(tops) >= 9
    assert max(tops) - min(tops) < 70
    assert len({round(top / 10) for top in tops}) <= 3, "two rows, in which nothing stands askew"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate(NEWEST) < page.evaluate(
        "document.querySelector('.above').getBoundingClientRect().top / innerHeight"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.inner_text("#sheet-status") == "Stopped at its length: 60 tokens."
    assert page.locator("#sheet-status").bounding_box()["height"] < 30, "in one line, beside Share"
    chip = page.locator("#chips button").first.bounding_box()
    assert chip["x"] >= 0
    assert chip["x"] + chip["width"] <= 390, "what differs is in sight"


def test_the_bar_says_model_length_preset_what_differs_and_how_many_tokens_there_are(window, page):
    write(window, tokens=7, more="&preset=steady&temperature=1.1")
    window.wait_until_written()
    until(lambda: page.inner_text("#written") == "7 tokens")
    assert page.input_value(".row [name=model]") == "storyteller"
    assert page.input_value("#length") == "7"
    assert page.inner_text("#preset-name") == "Steady"
    page.click("[data-empty=temperature]")
    assert page.input_value("[name=temperature]") == ""
    page.fill("#length", "5")
    page.focus(".cm-content")
    page.keyboard.press("Control+End")
    page.click("#write-on")
    until(lambda: page.inner_text("#written") == "12 tokens")
    window.reload()
    until(lambda: page.input_value("#length") == "5")
    assert page.locator("[data-empty=temperature]").count() == 0


HEARD = """window.heard = [];
const listen = EventSource.prototype.addEventListener;
EventSource.prototype.addEventListener = function (name, tell) {
  listen.call(this, name, (event) => { window.heard.push(`${name} ${event.data}`); tell(event); });
};"""


def test_an_answer_that_comes_late_does_not_take_back_what_was_said_of_the_writing_since(window, page):
    held = []
    page.add_init_script(HEARD)
    page.route("**/write", lambda route: held.append((route, route.fetch())))
    write(window, tokens=4096, model="slow")
    until(lambda: any("Writing" in one for one in page.evaluate("heard")))
    [(route, answer)] = held
    route.fulfill(response=answer, json=answer.json() | {"status": "Reading the prompt…"})
    until(lambda: "writing" in page.get_attribute(".acts", "class"))
    until(lambda: len(window.text()) > 30)
    assert page.inner_text("#sheet-status") == "Writing…"
    page.keyboard.press("Escape")


def test_what_stands_behind_the_dots_closes_by_escape_and_by_a_press_outside(window, page):
    window.type("Once")
    unfold(page)
    assert page.is_visible("#more >> text=Settings")
    page.keyboard.press("Escape")
    assert not page.is_visible("#more")
    assert page.evaluate("document.activeElement.dataset.do") == "more"
    unfold(page)
    page.mouse.click(20, 450)
    assert not page.is_visible("#more")
    page.click("#preset-name")
    assert page.evaluate("document.activeElement.name") == "preset"


LINES = """() => {
  const found = [];
  const texts = document.createTreeWalker(document.querySelector('.cm-content'), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let place = 0, top = null;
  while (texts.nextNode()) {
    const { length } = texts.currentNode;
    for (let at = (4 - place % 4) % 4; at < length; at += 4) {  // every fourth character of the text
      range.setStart(texts.currentNode, at);
      range.setEnd(texts.currentNode, at + 1);
      const box = range.getClientRects()[0];
      if (!box || Math.abs(box.bottom - top) < 8) continue;
      top = box.bottom;
      found.push([place + at, Math.round(top + scrollY)]);
    }
    place += length;
  }
  return found;
}"""


SHADED = """() => [...CSS.highlights].flatMap(([name, ranges]) => [...ranges].filter((one) =>
  one.startOffset <= (one.startContainer.data ?? one.startContainer.childNodes).length
  && one.endOffset <= (one.endContainer.data ?? one.endContainer.childNodes).length  // else it is of the last frame
).map((one) => {
  const range = document.createRange();
  range.setStart(one.startContainer, one.startOffset);
  range.setEnd(one.endContainer, one.endOffset);
  return [range, name, range.toString()];
})).sort(([one], [other]) => one.compareBoundaryPoints(Range.START_TO_START, other)
  || one.compareBoundaryPoints(Range.END_TO_END, other)).map(([, name, text]) => [name, text])"""


def shaded(page) -> list[tuple[str, str]]:
    """The shades of a sheet's text from its beginning on, each with the words that it covers."""
    return [(name, text) for name, text in page.evaluate(SHADED)]


def told(page, lens) -> list[tuple[str, str]]:
    """The same as the server tells them; words that follow each other in one shade are one, and the paper is none."""
    found, letter = [], {"probability": "p", "rank": "k", "entropy": "e"}[lens]
    for span in page.request.get(f"{page.url}/state").json()["spans"]:
        for text, _, classes in span.get("cells", ()):
            name, text = next(one for one in classes.split() if one[0] == letter), text.replace("\n", "")
            goes_on = found and found[-1][0] == name and found[-1][2]
            found[-1:] = [(name, found[-1][1] + text, True)] if goes_on else [*found[-1:], (name, text, True)]
        found += [("", "", False)] if "cells" not in span else []
    return [(name, text) for name, text, _ in found if name and name[1] != "0"]


@pytest.mark.long
def test_a_lens_on_1500_tokens_moves_no_line_and_is_there_after_a_reload(window, page):
    write(window, tokens=1500, more="&temperature=1.5&top_k=40")
    window.wait_until_written()
    until(lambda: page.inner_text("#written") == "1,500 tokens")
    before = page.evaluate(LINES)
    assert len(before) > 60
    for name, letter in {"How surprising": "p", "Rank": "k", "How unsure": "e"}.items():
        page.check(f"label:has-text('{name}') >> [name=lens]")
        until(lambda letter=letter: {name[0] for name, _ in shaded(page)} == {letter})
        assert page.locator(".legend:visible").count() == 1
        assert page.evaluate(LINES) == before, name
    until(lambda: page.request.get(f"{page.url}/state").json()["lens"] == "entropy")
    window.reload()
    until(lambda: {name[0] for name, _ in shaded(page)} == {"e"})


@pytest.mark.parametrize("lens", ["probability", "rank", "entropy"])
def test_each_word_is_in_the_shade_that_the_server_tells_also_behind_what_was_typed_before_it(window, page, lens):
    write(window, tokens=40, more="&temperature=1.5&top_k=0")
    window.wait_until_written()
    page.check(f"[name=lens][value={lens}]", force=True)
    until(lambda: shaded(page) == told(page, lens), what=lambda: (shaded(page), told(page, lens)))
    page.keyboard.press("Control+Home")
    for place in range(3):
        page.keyboard.type("x y\n" if place else "ab")
        page.keyboard.press("Control+ArrowRight")
    until(lambda: shaded(page) == told(page, lens), what=lambda: (shaded(page), told(page, lens)))
    page.check("[name=lens][value=author]", force=True)
    until(lambda: shaded(page) == [])


def test_the_likeliest_words_are_told_at_a_word_that_is_pointed_at_or_walked_to(window, page):
    write(window, tokens=20)
    window.wait_until_written()
    page.locator("#editor .red").first.hover()
    page.wait_for_selector(".peek .share")
    assert page.locator(".peek li").count() == 3
    page.mouse.move(5, 5)
    assert not page.is_visible(".peek")
    page.keyboard.press("Control+End")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".peek .share")
    page.keyboard.type("x")
    assert not page.is_visible(".peek")


@pytest.mark.parametrize("way", ["×", "Escape", "outside"])
def test_the_panel_stands_at_its_word_and_closes(window, page, way):
    write(window, tokens=20)
    window.wait_until_written()
    height = page.evaluate("document.body.scrollHeight")
    word = page.locator("#editor .red").first
    word.click()
    page.wait_for_selector("#token .bars")
    assert page.locator("#token").bounding_box()["y"] - word.bounding_box()["y"] < 60
    assert page.evaluate("document.body.scrollHeight") == height
    if way == "×":
        page.click("#token .close")
    elif way == "Escape":
        page.keyboard.press("Escape")
    else:
        page.mouse.click(10, 500)
    assert not page.is_visible("#token")
    if way != "outside":
        assert page.evaluate("document.activeElement.className").startswith("cm-content")


TOUCH = """([kind, y]) => document.querySelector('#token').dispatchEvent(new TouchEvent(kind, {bubbles: true, touches: kind === 'touchend' ? [] :
  [new Touch({identifier: 1, target: document.querySelector('#token'), clientX: 100, clientY: y})]}))"""


@pytest.mark.parametrize("window", [{"viewport": PHONE, "has_touch": True}], indirect=True)
def test_on_a_phone_the_panel_is_a_low_sheet_that_hides_not_its_word_and_is_swiped_away(window, page):
    write(window, tokens=150)
    window.wait_until_written()
    page.evaluate("scrollTo(0, 0)")
    word = page.locator("#editor .cm-line:has(.red)").first
    page.touchscreen.tap(100, 500)
    page.wait_for_selector("#token .bars")
    box = page.locator("#token").bounding_box()
    assert (box["width"], box["y"] + box["height"]) == (390, 780)
    assert box["height"] <= 0.4 * 780
    assert word.is_visible()
    for step in (["touchstart", 500], ["touchmove", 530], ["touchend", 0]):
        page.evaluate(TOUCH, step)
    assert page.is_visible("#token"), "a finger that trembles closes nothing"
    for step in (["touchstart", 500], ["touchmove", 600], ["touchend", 0]):
        page.evaluate(TOUCH, step)
    assert not page.is_visible("#token")


def test_what_is_tried_again_fades_until_the_new_try_comes(window, page):
    write(window, tokens=8)
    window.wait_until_written()
    old, held = window.text().removeprefix("Once upon a time"), []
    page.route("**/retry", lambda route: held.append(route))
    with page.expect_request("**/retry"):
        page.keyboard.press("Alt+r")
    assert "".join(page.locator(".fading").all_inner_texts()) == old
    held[0].continue_()
    page.wait_for_selector("text=2 / 2")
    assert page.locator(".fading").count() == 0
