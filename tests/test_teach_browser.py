"""A person's whole way in Chromium: the operator's link, a text, what was found in it, the training, and writing with it."""

import shutil

import pytest
from browser import answer_to, opened, serving
from operating import link_of
from waiting import until

from generate import check_folder
from webapp.http.operator import COOKIE

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
TALE = "Then the little tin soldier said to the lamp: shine, lamp, shine! And the lamp shone.\n"


@pytest.fixture
def own_models(models, tmp_path):
    shutil.copytree(models / "storyteller", tmp_path / "models" / "storyteller")
    return tmp_path / "models"


def test_a_model_is_taught_in_the_page_and_writes_there(browser, own_models, tmp_path):
    with serving(tmp_path, own_models, RUBRIC_NICE="0") as server, opened(browser, server) as window:
        page = window.page
        page.goto(link_of(server))
        page.wait_for_url(f"{server.url}/workshop")
        assert "key=" not in page.evaluate(
            "document.referrer + location.href + performance.getEntries().map(e => e.name)"
        )
        assert COOKIE not in page.evaluate("document.cookie")
        page.click("text=Teach a model")
        page.fill("textarea", TALE * 200)
        page.fill("[name=makes]", "soldier")
        page.click("text=Presets, and the rest")
        for name, value in {"documents": "line", "steps": "16", "sample_every": "4", "learning_rate": "0.001"}.items():
            page.fill(f"[name={name}]", value)
        page.click("text=Look at it")
        page.wait_for_selector("text=180 documents")
        page.click("button:text('Train')")
        page.wait_for_selector(".curve .held circle")
        page.wait_for_selector("#step-4 .continuation", timeout=120_000)
        assert "tokens a second" in page.text_content(".far")
        page.focus("button:text('Stop')")
        page.wait_for_selector("#step-8 .continuation", timeout=120_000)
        assert page.evaluate("document.activeElement.textContent") == "Stop", "what is shown anew takes no focus away"
        page.click("text=Write with it", timeout=300_000)
        assert check_folder(own_models / "soldier").training()["steps"] == 16
        window.type("Then the little tin soldier said", "/?model=soldier&max_new_tokens=30")
        page.click("#write-on")
        run = window.wait_until_written()
        assert run["model"] == "soldier"
        assert "lamp" in run["samples"][0]["text"]
        page.goto(f"{server.url}/workshop")
        page.click("text=storyteller learns text.txt")
        page.click("text=beside it")
        page.wait_for_url("**/beside/*")
        until(lambda: page.locator("article.over").count() == 2, what="the end of both texts")
        page.click("text=storyteller reads soldier")
        page.wait_for_url("**/shift/*")
        page.wait_for_selector(".shades")


def test_a_training_outlives_a_killed_server_and_no_process_does(browser, own_models, tmp_path):
    with serving(tmp_path, own_models, RUBRIC_NICE="0") as server, opened(browser, server) as window:
        page = window.page
        page.goto(link_of(server))
        page.wait_for_url(f"{server.url}/workshop")
        page.goto(f"{server.url}/workshop/teach?sample_every=0&documents=line&steps=60&block_size=64&minutes=")
        page.fill("textarea", TALE * 200)
        page.fill("[name=makes]", "soldier")
        page.click("text=Look at it")
        page.click("button:text('Train')")
        page.wait_for_selector(".far", timeout=120_000)
        until(lambda: server.stored("SELECT json_extract(progress, '$.done') FROM job") > 3, 120, "some steps")
        server.kill()
        work = own_models / ".soldier.training"
        until(lambda: "stopped" in (work / "run.json").read_text(), 60, "the saving of its process")
        server.start()
        page.wait_for_selector("text=Write with it", timeout=240_000)
        window.errors.clear()  # while the server was down
        assert check_folder(own_models / "soldier").training()["steps"] == 60
        assert not work.exists()
        assert server.log.read_text().count("/operator?key=") == 1, "no other link where there is an operator"


def test_a_link_in_a_mail_leads_in_and_a_stranger_who_has_it_later_gets_nothing(browser, own_models, tmp_path):
    with serving(tmp_path, own_models) as server:
        with opened(browser, server) as window:
            window.page.set_content(f"<a href='{link_of(server)}'>a link in a mail</a>")  # of another site
            window.page.click("a")
            window.page.wait_for_url(f"{server.url}/workshop")
            assert window.page.query_selector("text=Teach a model")
        with opened(browser, server) as window:
            answer = window.page.goto(link_of(server))
            assert answer.status == 404
            window.errors.clear()  # Chromium tells of the 404
            assert window.page.query_selector("text=Workshop") is None
        assert answer_to_get(server.url + "/workshop") == 404


def answer_to_get(url: str) -> int:
    import urllib.request

    return answer_to(urllib.request.Request(url)).status
