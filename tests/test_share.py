"""The Share button: what there is to share of a version and of its sheet, who can open it, and how its dialog behaves."""

import json
import re
import secrets
import socket
import urllib.request

import pytest
import zxingcpp
from browser import Window, get, opened, serving
from test_card import painted
from waiting import until

from generate import address_on_the_network
from webapp.http import neighbours

NEAR = "192.168.178.20"
ONLY_HERE = "Only this computer can open it."


@pytest.fixture
def page(window):
    return window.page


@pytest.fixture
def near(monkeypatch):
    """A computer that has an address in its network."""
    monkeypatch.setattr(neighbours, "address_on_the_network", lambda: NEAR)


def of_a_sheet(visitor, text="The old king", write=True) -> tuple[str, str | None]:
    """The addresses of a new sheet and of its version, which is written to its end."""
    sheet = visitor.post("/sheets", json={"key": secrets.token_urlsafe(16), "edits": [[0, 0, text]]}).get_json()
    address = f"/s/{sheet['id']}"
    if not write:
        return address, None
    wish = {
        "key": secrets.token_urlsafe(16),
        "rev": sheet["rev"],
        "at": len(text),
        "options": {"model": "tiny", "max_new_tokens": "5"},
    }
    run = f"/r/{visitor.post(f'{address}/write', json=wish).get_json()['open']['run']}"
    visitor.finish(run)
    return address, run


def test_a_page_tells_all_there_is_to_share_of_a_run(visitor):
    run = visitor.start("The old\n<king>", max_new_tokens=5)
    text = "The old\n<king>" + visitor.finish(run)["samples"][0]["text"]
    page = visitor.get(f"{run}/share").text
    assert f'<input value="http://localhost{run}" readonly' in page
    for name in ("txt", "json", "png"):
        address = re.search(rf'href="([^"]+\.{name})" download', page)[1]
        assert visitor.get(address).status_code == 200
    assert (
        f"&lt;iframe src=&#34;http://localhost{run}/embed" in page
        or f'&lt;iframe src="http://localhost{run}/embed' in page
    )
    assert "The old\n&lt;king&gt;" in page
    assert text.splitlines()[0] in page
    assert 'name="which"' not in page, "it is the version of no sheet"


def test_a_sheet_and_its_version_are_shared_side_by_side_each_where_one_stands_first(visitor):
    sheet, run = of_a_sheet(visitor)
    for asked, order in ((sheet, ["sheet", "version"]), (run, ["version", "sheet"])):
        page = visitor.get(f"{asked}/share").text
        assert re.findall(r'name="which" value="(\w+)"', page) == order
        assert re.findall(r'name="which" value="(\w+)" checked', page) == order[:1]
        assert re.findall(r'<input value="http://localhost([^"]+)"', page) == [asked, {sheet: run, run: sheet}[asked]]
        for name in ("txt", "json"):
            found = re.findall(rf'href="([^"]+)\.{name}" download', page)
            assert sorted(found) == sorted([sheet, run])
    assert f'data-share href="{sheet}/share"' in visitor.get(sheet).text
    assert f'data-share href="{run}/share"' in visitor.get(run).text


def test_a_sheet_that_no_model_wrote_in_says_so_and_has_no_picture(visitor):
    sheet, _ = of_a_sheet(visitor, write=False)
    page = visitor.get(f"{sheet}/share").text
    assert "others see an empty page" in page
    assert ".png" not in page


def test_friends_are_offered_of_a_sheet_what_they_may_see(visitor, friend):
    sheet, _ = of_a_sheet(visitor, "Mine alone", write=False)
    assert "Mine alone" in visitor.get(f"{sheet}/share").text
    assert "Mine alone" not in friend.get(f"{sheet}/share").text


def test_an_address_for_this_computer_alone_says_so_and_what_it_could_be_behind_a_fold(visitor, near):
    run = visitor.start(max_new_tokens=1)
    page = visitor.get(f"{run}/share").text
    assert ONLY_HERE in page
    fold = re.search(r"<details.*?</details>", page, re.DOTALL)[0]
    assert "HOST" in fold
    assert f"http://{NEAR}:8000{run}" in fold
    assert NEAR not in page.replace(fold, "")
    assert "make run" not in page
    assert "qr.svg" not in page, "no phone could open it"


def test_nobody_at_another_computer_is_told_the_address_in_our_network(visitor, near):
    run = visitor.start(max_new_tokens=1)
    page = visitor.get(f"{run}/share", environ_overrides={"REMOTE_ADDR": "203.0.113.7"}).text
    assert NEAR not in page


def test_where_the_server_listens_to_the_network_its_address_there_is_told_and_drawn(visitor, near, monkeypatch, app):
    monkeypatch.setitem(app.config["SETTINGS"], "HOST", "0.0.0.0")
    monkeypatch.setitem(app.config["SETTINGS"], "PORT", 9000)
    sheet, run = of_a_sheet(visitor)
    for path in (sheet, run):
        page = visitor.get(f"{path}/share").text
        assert f'data-copy="http://{NEAR}:9000{path}"' in page
        assert "HOST" not in page
        code = visitor.get(re.search(rf'src="({path}/qr.svg)"', page)[1]).text
        assert zxingcpp.read_barcodes(painted(code))[0].text == f"http://{NEAR}:9000{path}"


def test_a_computer_without_a_network_promises_no_address(visitor, monkeypatch):
    monkeypatch.setattr(neighbours, "address_on_the_network", lambda: None)
    page = visitor.get(f"{visitor.start(max_new_tokens=1)}/share").text
    assert ONLY_HERE in page
    assert page.count("http://") == page.count("http://localhost")


def test_an_address_that_everybody_can_open_warns_of_nothing(visitor, near, monkeypatch, app):
    monkeypatch.setitem(app.config["SETTINGS"], "PUBLIC_URL", "https://rubric.example")
    run = visitor.start(max_new_tokens=1)
    page = visitor.get(f"{run}/share").text
    assert f'data-copy="https://rubric.example{run}"' in page
    assert ONLY_HERE not in page
    assert "data-send" in page
    assert f"{run}/qr.svg" in page


def test_the_address_in_the_network_is_one_of_this_computer_s_or_none(monkeypatch):
    found = address_on_the_network()
    if found is not None:
        with socket.socket() as probe:
            probe.bind((found, 0))
    monkeypatch.setattr(socket.socket, "connect", lambda *given: (_ for _ in ()).throw(OSError("no network")))
    assert address_on_the_network() is None


# The dialog


def written(window) -> None:
    window.type("Once upon a time", "/?model=tiny&max_new_tokens=5&seed=1")
    window.page.keyboard.press("Control+Enter")
    window.wait_until_written()


def test_nothing_is_shared_before_there_is_an_address(window, page, server):
    page.goto(server.url)
    assert not page.is_visible(".acts .sharing")
    written(window)
    assert page.is_visible(".acts .sharing")


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({}, id="wide"),
        pytest.param({"viewport": {"width": 390, "height": 780}}, id="phone", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_the_button_shares_the_sheet_or_this_version(window, page):
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    written(window)
    page.click(".acts .sharing")
    page.wait_for_selector("dialog .way")
    run = page.evaluate("document.querySelector('.versions a').href")
    for kind, address in (("sheet", page.evaluate("location.href")), ("version", run)):
        page.check(f"dialog [value={kind}]")
        copy = page.locator("dialog button:has-text('Copy link'):visible")
        assert copy.count() == 1
        copy.click()
        until(lambda: page.inner_text("dialog .copied") == "Copied; only this computer can open it.")
        assert page.evaluate("navigator.clipboard.readText()") == address
        page.locator("dialog button:has-text('Copy the text'):visible").click()
        until(lambda: page.inner_text("dialog .copied") == "Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == urllib.request.urlopen(f"{run}.txt").read().decode()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "[...document.querySelectorAll('dialog *')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    )


@pytest.mark.parametrize("way", ["×", "Escape", "outside"])
def test_the_dialog_closes_and_what_is_being_written_goes_on(window, page, way):
    window.type("Once upon a time", "/?model=slow&max_new_tokens=4096&seed=1")
    page.keyboard.press("Control+Enter")
    until(lambda: page.inner_text("#written") != "")
    page.focus(".acts .sharing")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog .way")
    if way == "×":
        page.click("dialog .close")
    elif way == "Escape":
        page.keyboard.press("Escape")
    else:
        page.mouse.click(5, 5)
    until(lambda: not page.is_visible("dialog"))
    if way != "outside":
        assert page.evaluate("document.activeElement.matches('.sharing')"), "the keyboard is where it was"
    length = len(window.text())
    until(lambda: len(window.text()) > length, what="more text")
    page.focus(".cm-content")
    page.keyboard.press("Escape")
    window.wait_until_written()


def test_a_run_s_page_has_the_same_button(window, page):
    run = window.write("Once", max_new_tokens=3)
    window.wait_until_over()
    page.click("[data-share]")
    page.wait_for_selector("dialog .way")
    assert page.input_value("dialog .address input") == run
    assert not page.is_visible("dialog [data-send]")


@pytest.mark.long
def test_a_phone_offers_its_own_dialog_where_others_can_open_the_link(browser, tmp_path, models):
    with (
        serving(tmp_path, models, RUBRIC_MODEL="tiny", PUBLIC_URL="https://rubric.example") as server,
        opened(browser, server) as window,
    ):
        window.page.add_init_script("navigator.share = async given => { window.given = given; }")
        run = window.write("Once", model="tiny", max_new_tokens=3)
        window.page.click("[data-share]")
        window.page.click("dialog [data-send]")
        assert window.page.evaluate("given.url") == f"https://rubric.example/r/{run.rsplit('/', 1)[1]}"


def test_without_a_connection_the_dialog_says_so(browser, server):
    window = Window(browser, server)  # Chromium itself notes that it is offline in its console
    window.write("Once", max_new_tokens=3)
    window.context.set_offline(True)
    window.page.click("[data-share]")
    until(lambda: "No connection" in window.page.inner_text("dialog"))
    window.context.close()


@pytest.mark.parametrize("window", [{"java_script_enabled": False}], indirect=True)
def test_without_a_script_the_button_leads_to_a_page_with_the_same(window, page):
    run = window.write("Once", max_new_tokens=3)
    page.click("[data-share]")
    page.wait_for_url(f"{run}/share")
    assert page.input_value(".address input") == run
    assert json.loads(get(f"{run}.json"))["url"] == run
    assert not page.is_visible("text=Copy link"), "nothing is offered that needs a script"
    page.click("text=To this version")
    page.wait_for_url(run)
