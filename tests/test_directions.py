"""Texts that run to the left, on the page: wherever one stands, its own letters decide."""

import re
from html.parser import HTMLParser

import pytest
from browser import until

HEBREW = "שועל קטן"
TEXT = f"{HEBREW} גר ביער.\nA line in English.\nكان له صديق"
VOID = {"meta", "link", "input", "img", "br"}
RECTS = """
words => words.map(word => {
  const story = document.querySelector('#story, textarea');
  const walker = document.createTreeWalker(story, NodeFilter.SHOW_TEXT), nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  const all = nodes.map(node => node.data).join(''), range = document.createRange();
  const seek = place => { for (const node of nodes) { if (place <= node.length) return [node, place]; place -= node.length; } };
  range.setStart(...seek(all.indexOf(word)));
  range.setEnd(...seek(all.indexOf(word) + word.length));
  const boxes = [...range.getClientRects()].filter(box => box.width), edge = story.getBoundingClientRect();
  return [Math.min(...boxes.map(box => box.left)) - edge.left, edge.right - Math.max(...boxes.map(box => box.right))];
})
"""


class Walk(HTMLParser):
    """Finds text in Hebrew that stands in no element whose direction comes from what is in it."""

    def __init__(self):
        super().__init__()
        self.open, self.lost, self.found = [], [], 0

    def handle_starttag(self, tag, attrs):
        auto = tag == "bdi" or dict(attrs).get("dir") == "auto"
        if tag == "input" and HEBREW[:4] in (dict(attrs).get("value") or ""):
            self.judge(auto, f"<input {attrs}")
        if tag not in VOID:
            self.open.append((tag, auto))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if re.search("[א-ת]", data):
            self.judge(any(auto or tag in ("title", "script") for tag, auto in self.open), data)

    def judge(self, fits: bool, what: str):
        self.found += 1
        if not fits:
            self.lost.append(what)


def test_wherever_somebody_s_text_stands_its_own_letters_tell_its_direction(visitor):
    one, many = visitor.start(HEBREW, max_new_tokens=4), visitor.start(HEBREW, max_new_tokens=4, samples=3)
    for run in (one, many):
        visitor.finish(run)
    beside = visitor.post(f"{one}/beside", data={"model": "other"}).headers["Location"]
    moved = visitor.post(f"{one}/shift", data={"model": "other"}).headers["Location"]
    visitor.finish("/r/" + moved.split("/")[-1])
    name = one.removeprefix("/r/")
    places = [one, many, f"{one}/plain", f"{many}/plain", f"{one}/embed", f"{many}/embed", beside, moved]
    places += ["/runs", f"/runs?q={HEBREW[:4]}", f"/?parent={name}", f"/?parent={name}&sample=0", f"/?prompt={HEBREW}"]
    places += [f"/?stop={HEBREW}"]
    for place in places:
        walk = Walk()
        walk.feed(visitor.get(place).text)
        assert walk.found, place
        assert not walk.lost, (place, walk.lost)
    panel = visitor.get(f"{one}/token?sample=prompt&place=1").text  # its tokens are halves of letters
    assert panel.count('class="token-name" dir="auto"') == 1
    assert panel.count('class="name" dir="auto"') == panel.count("<li ") > 1
    walk = Walk()
    walk.feed(visitor.get("/runs?q=שאין").text)
    assert walk.found
    assert not walk.lost


# In a browser


on_a_phone_too = pytest.mark.parametrize(
    "window", [{}, {"viewport": {"width": 390, "height": 900}}], ids=["wide", "phone"], indirect=True
)


@on_a_phone_too
def test_each_paragraph_of_a_sheet_turns_with_what_is_typed(window):
    window.type("")
    turned = "[...document.querySelectorAll('.cm-line')].map(line => getComputedStyle(line).direction)"
    assert window.page.evaluate(turned) == ["ltr"]
    window.page.keyboard.insert_text(HEBREW)
    window.page.keyboard.press("Enter")
    window.page.keyboard.insert_text("A fox, " + HEBREW)
    assert window.page.evaluate(turned) == ["rtl", "ltr"]


@on_a_phone_too
def test_each_paragraph_of_a_run_stands_where_its_first_letter_says(window):
    window.write(TEXT, max_new_tokens=12)
    window.wait_until_over()
    (_, hebrew), (english, _), (_, arabic) = window.page.evaluate(RECTS, ["שועל", "A line", "كان"])
    assert max(hebrew, english, arabic) < 2, "pixels from the edge where a line of it begins"
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@on_a_phone_too
def test_arrow_keys_go_the_way_of_the_text(window):
    page = window.page
    window.write(HEBREW, max_new_tokens=4)
    window.wait_until_over()
    where = "(({place}) => Number(place))(document.querySelector('.looked')?.dataset ?? {place: -1})"
    page.focus("#story")
    page.keyboard.press("ArrowLeft")
    until(lambda: page.evaluate(where) == 0)
    page.keyboard.press("ArrowLeft")
    until(lambda: page.evaluate(where) == 1)
    page.keyboard.press("ArrowRight")
    until(lambda: page.evaluate(where) == 0)
