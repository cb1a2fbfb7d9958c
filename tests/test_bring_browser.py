"""A person's way in Chromium from an archive of an old run, by one question, to its certificate."""

import shutil
from pathlib import Path

import pytest
from browser import opened, serving
from dropping import archive_without_vocabulary, drop
from operating import operator_cookie

from generate import check_folder

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return archive_without_vocabulary(tmp_path_factory.mktemp("old"))


@pytest.fixture
def own_models(models, tmp_path):
    shutil.copytree(models / "storyteller", tmp_path / "models" / "storyteller")
    return tmp_path / "models"


@pytest.mark.parametrize("options", [{}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}])
def test_an_archive_is_dropped_one_question_answered_and_the_certificate_seen(
    browser, own_models, archive, tmp_path, options
):
    with serving(tmp_path, own_models, RUBRIC_NICE="0") as server, opened(browser, server, **options) as window:
        name, value = operator_cookie(tmp_path / "instance")
        window.context.add_cookies([{"name": name, "value": value, "url": server.url}])
        page = window.page
        page.goto(f"{server.url}/workshop")
        page.click("text=Bring a model")
        drop(page, archive.name, archive.read_bytes())
        page.wait_for_selector("text=It is here.")
        assert page.get_attribute("[name=makes]", "placeholder") == "checkpoint_run1"
        page.click("button:text('Bring it')")
        page.wait_for_selector("text=Whose vocabulary has it?", timeout=120_000)
        asked = page.inner_text("#job")
        assert "One question, and it goes on." in asked
        assert "It has 50,257 tokens" in asked
        assert "--vocab" not in asked, "no option of the terminal's"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("button[type=submit]:text('Go on')")
        page.wait_for_selector(".verdict", timeout=120_000)
        verdict = page.inner_text(".verdict")
        assert verdict == check_folder(own_models / "checkpoint_run1").certificate()["verdict"]
        page.click("text=The certificate’s own page")
        assert page.url == f"{server.url}/models/checkpoint_run1/certificate"
        assert page.inner_text(".verdict") == verdict
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("text=Write with it")
        assert page.input_value("[name=model]") == "checkpoint_run1"


def test_a_file_that_the_server_refuses_is_told_of_in_its_sentence_beside_the_place(browser, own_models, tmp_path):
    with serving(tmp_path, own_models) as server, opened(browser, server) as window:
        name, value = operator_cookie(tmp_path / "instance")
        window.context.add_cookies([{"name": name, "value": value, "url": server.url}])
        page = window.page
        page.goto(f"{server.url}/workshop/bring")
        page.route(
            "**/workshop/uploads",
            lambda route: route.fulfill(
                status=413, content_type="application/json", body='{"problem": "It is too much."}'
            ),
        )
        drop(page, "run.zip", b"PK")
        page.wait_for_selector("[data-problem]:text('It is too much.')")
        page.unroute("**/workshop/uploads")
        page.click("text=Go on")
        page.wait_for_selector("text=It is here.")
        assert page.is_hidden("[data-problem]")
        window.errors[:] = [
            error for error in window.errors if "413" not in error
        ]  # Chromium tells of it in its console
