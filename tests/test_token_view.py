"""The token view in a real browser: lenses, the panel, forks, all of it by keyboard and on a phone."""

import itertools
import re

import pytest
from browser import Window
from waiting import until

LENSES = ("probability", "rank", "entropy")


on_a_phone_too = pytest.mark.parametrize(
    "window",
    [
        pytest.param({}, id="wide"),
        pytest.param({"viewport": {"width": 390, "height": 844}}, id="phone", marks=pytest.mark.long),
    ],
    indirect=True,
)


def shades(page) -> dict[str, str]:
    """Background of each class of the lens that is on, as the browser computes it."""
    return page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('.story [data-n][class]')].map(t => [t.className.replace(' looking', ''), getComputedStyle(t).backgroundColor]))"
    )


def panel(page) -> str:
    return page.inner_text("#token")


def looked_at(page) -> list:
    """The sample and the place of the token that the panel tells of."""
    return page.evaluate("(({sample, place}) => [sample, Number(place)])(document.querySelector('.looked').dataset)")


def focused(page) -> str:
    """The id of the element that has the focus."""
    return page.evaluate("document.activeElement.id")


def tab_to(page, wanted: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"Tab does not come by #{wanted}")


@on_a_phone_too
def test_lenses_are_switched_without_asking_the_server(window):
    page = window.page
    window.write("Once upon a time there was a fox", max_new_tokens=80, seed=3)
    window.wait_until_over()
    page.evaluate("window.stayed = true")
    asked = len(window.asked)
    clear = "rgba(0, 0, 0, 0)"
    assert set(shades(page).values()) == {clear}
    for lens, letter in zip(LENSES, "pke", strict=True):
        page.check(f"[name=lens][value={lens}]")
        by_class: dict[str, set] = {}
        for names, colour in shades(page).items():
            by_class.setdefault(re.search(rf"{letter}(\d)", names)[1], set()).add(colour)
        assert all(len(colours) == 1 for colours in by_class.values()), "the other lenses' classes have no say"
        assert len({next(iter(c)) for c in by_class.values()}) == len(by_class)
        assert len(by_class) >= 3
        assert page.locator(f".legend.{lens}").is_visible()
        assert page.locator(".legend:visible").count() == 1
    page.check("[name=lens][value=author]")
    assert set(shades(page).values()) == {clear}
    assert page.evaluate("window.stayed")
    assert len(window.asked) == asked


def test_the_text_can_be_walked_and_forked_by_keyboard_alone(window):
    page = window.page
    url = window.write("The king 从前", max_new_tokens=30, seed=3)
    window.wait_until_over()
    told = window.stored(url)
    page.focus("#story")
    page.keyboard.press("ArrowRight")
    until(lambda: "nothing came before it" in panel(page))
    walked = []
    for _ in range(len(told["prompt"]["tokens"]) + 2):
        before = panel(page)
        page.keyboard.press("ArrowRight")
        until(lambda before=before: panel(page) != before or not panel(page))
        walked.append(looked_at(page))
    prompt = len(told["prompt"]["tokens"])
    assert walked == [["prompt", n] for n in range(1, prompt)] + [["0", 0], ["0", 1], ["0", 2]]
    chosen = told["samples"][0]["tokens"][2]["alternatives"][2]
    page.keyboard.press("Enter")  # into the panel: "Again from here", then the alternatives
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: address != url)
    window.wait_until_over()
    child = window.stored(page.url)
    ids = [t["id"] for t in told["prompt"]["tokens"] + told["samples"][0]["tokens"][:2]]
    assert [t["id"] for t in child["prompt"]["tokens"]] == [*ids, chosen["id"]]
    assert page.locator(".family b").inner_text() == "another word"
    page.click(".family a")
    page.wait_for_url(url)
    assert window.stored(url) == told


@pytest.mark.parametrize("temperature", [1, 0.15], ids=["whole", "folded"])
def test_any_sample_of_several_is_entered_by_keyboard_alone(window, temperature):
    page = window.page
    window.write("The old king", samples=3, max_new_tokens=40, seed=5, temperature=temperature)
    window.wait_until_over()
    page.wait_for_selector("#sheet:not([hx-get])")
    folds = page.locator(".fold").count()
    assert folds == (3 if temperature < 1 else 0)
    first = int(re.search(r"the same (\d+) tokens", page.inner_text(".parting"))[1]) if folds else 0
    tab_to(page, "story")  # the prompt
    tab_to(page, "story-1")
    page.keyboard.press("ArrowRight")
    until(lambda: "It ranked" in panel(page))
    assert looked_at(page) == ["1", first], "the first token that is not folded away"
    page.keyboard.press("ArrowRight")
    until(lambda: looked_at(page) == ["1", first + 1])
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Again from here"


def test_who_has_tabbed_to_a_sample_stays_there_when_the_sheet_is_done(window):
    page = window.page
    window.write("The old king", model="slow", samples=2, max_new_tokens=4096)
    until(lambda: len(window.story(1)) > 20)
    tab_to(page, "story-1")
    page.keyboard.press("Escape")
    window.wait_until_over()
    page.wait_for_selector("#sheet:not([hx-get])")
    until(lambda: focused(page) == "story-1")


def test_escape_closes_the_panel_and_only_then_stops_the_run(window):
    page = window.page
    url = window.write("Once upon a time", model="slow", max_new_tokens=4096)
    until(lambda: len(window.story()) > 20)
    page.locator("#sample-0 [data-n]").nth(
        1
    ).click()  # its place is not 1 where the first tokens are one half character each
    until(lambda: "It ranked" in panel(page))
    page.keyboard.press("Escape")
    until(lambda: not panel(page))
    assert window.stored(url)["state"] == "writing"
    page.keyboard.press("Escape")
    window.wait_until_over()


@on_a_phone_too
def test_up_and_down_go_from_line_to_line(window):
    page = window.page
    window.write("Once upon a time", max_new_tokens=120, seed=3)
    window.wait_until_over()
    page.click("#sample-0 [data-n='1']")
    until(lambda: "It ranked" in panel(page))
    top = "document.querySelector('.looking').getBoundingClientRect().top + scrollY"
    first = page.evaluate(top)
    page.keyboard.press("ArrowDown")
    assert page.evaluate(top) > first
    page.keyboard.press("ArrowUp")
    assert page.evaluate(top) == first


@on_a_phone_too
def test_a_friend_forks_and_the_owner_sees_the_branch(window, browser, server):
    url = window.write("Once upon a time", max_new_tokens=20, seed=3)
    window.wait_until_over()
    friend = Window(browser, server)
    friend.page.goto(url)
    friend.page.click("#sample-0 [data-n='5']")
    friend.page.click(".bars li:nth-child(4) button")
    friend.page.wait_for_url(lambda address: address != url)
    friend.wait_until_over()
    assert friend.page.locator("summary >> text=Delete it").count() == 1, "the child is the friend's own"
    window.page.reload()
    assert window.page.locator(f'.family a[href="{friend.page.url.removeprefix(server.url)}"]').is_visible()
    friend.context.close()


@on_a_phone_too
def test_nothing_is_wider_than_the_window(window):
    window.write("A " + "verylongwordwithoutanyspace" * 6, max_new_tokens=30)
    window.wait_until_over()
    window.page.check("[name=lens][value=entropy]")
    window.page.click("#sample-0 [data-n='3']")
    until(lambda: "It ranked" in panel(window.page))
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.long
def test_shades_go_one_way_in_grey_and_their_words_can_be_read(browser, server, scheme):
    """Each next class is darker (on dark paper: lighter) by a step that an eye without colours sees."""
    window = Window(browser, server, color_scheme=scheme)
    page = window.page
    window.write("Once", max_new_tokens=5)
    window.wait_until_over()
    for lens in LENSES:
        page.check(f"[name=lens][value={lens}]")
        pairs = page.evaluate(
            """lens => {
              const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
              const rgb = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
              return [...document.querySelectorAll(`.legend.${lens} span`)].slice(1).map(one => {
                const style = getComputedStyle(one);
                return [rgb(style.backgroundColor), rgb(style.color)];
              });
            }""",
            lens,
        )
        grey = [luminance(back) for back, _ in pairs]
        assert grey == sorted(grey, reverse=scheme == "light")
        assert min(abs(a - b) for a, b in itertools.pairwise(grey)) > 0.008
        for back, ink in pairs:
            a, b = sorted((luminance(back), luminance(ink)))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (lens, back, ink)
    window.context.close()


def luminance(colour) -> float:
    parts = [v / 255 for v in colour[:3]]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
