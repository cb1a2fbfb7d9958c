"""What people see in a browser: a sheet that is taken down under their eyes, the password's page, a report without scripts."""

import urllib.parse

import pytest
from browser import opened, serving
from operating import operator_cookie

pytestmark = pytest.mark.long


def operate(window, path: str, **fields) -> None:
    """Send a form as the operator, from a browser of theirs."""
    name, value = operator_cookie(window.server.folder / "instance")
    address = f"{window.server.url}/workshop/{path}"
    answer = window.context.request.post(address, form=fields, headers={"Cookie": f"{name}={value}"}, max_redirects=0)
    assert answer.status == 303, answer.text()


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_a_sheet_that_is_taken_down_goes_from_the_pages_that_show_it(browser, server, window, what):
    window.type("Once upon a time there was")
    window.page.keyboard.press("Control+Enter")
    window.wait_until_written()
    path = urllib.parse.urlsplit(window.page.url).path
    with opened(browser, server) as friend:
        friend.page.goto(window.page.url)
        friend.page.wait_for_selector(".cm-content")
        operate(friend, f"written/sheet/{path[3:]}/{what}")
        for page in (friend.page, window.page):
            page.wait_for_selector("article.lone")
            said = page.inner_text("article.lone")
            assert ("has taken it down" if what == "hide" else "it was deleted") in said
            assert "Once upon" not in page.inner_text("body")
        friend.errors.clear()  # the browser notes the 410 itself
        window.errors.clear()


def test_a_link_of_a_private_server_is_there_once_the_password_is_given(browser, models, tmp_path):
    with serving(tmp_path, models, RUBRIC_MODEL="tiny", RUBRIC_PASSWORD="open sesame") as server:
        with opened(browser, server) as window:
            window.page.goto(f"{server.url}/")
            assert window.page.title() == "Rubric"
            window.page.fill("#password", "open says me")
            window.page.keyboard.press("Enter")
            window.page.wait_for_selector("#wrong")
            window.errors.clear()
            window.page.fill("#password", "open sesame")
            window.page.keyboard.press("Enter")
            window.page.wait_for_selector(".cm-content")
            link = window.write("Once upon a time", model="tiny", max_new_tokens=8)
            window.wait_until_over()
        with opened(browser, server, java_script_enabled=False) as friend:
            friend.page.goto(link)
            assert "/login?to=" in friend.page.url
            friend.page.fill("#password", "open sesame")
            friend.page.click("text=Come in")
            assert friend.page.url == link
            assert "Once upon a time" in friend.page.inner_text(".story")


def test_a_report_needs_no_script(browser, server, window):
    link = window.write("Once upon a time", model="tiny", max_new_tokens=8)
    with opened(browser, server, java_script_enabled=False) as friend:
        friend.page.goto(link)
        friend.page.click("text=Report this")
        friend.page.check("[value=hurts]")
        friend.page.fill("[name=words]", "It is about me.")
        friend.page.click("text=Report it")
        assert "reads what you said and decides" in friend.page.inner_text("main")
        name, value = operator_cookie(server.folder / "instance")
        friend.context.add_cookies([{"name": name, "value": value, "url": server.url}])
        friend.page.goto(f"{server.url}/workshop/written?which=reported")
        friend.page.click(".runs a")
        assert "It is about me." in friend.page.inner_text(".reports-of")
