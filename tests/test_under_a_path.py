"""The site under a path of a host that has other things on it, behind nginx and Caddy, as a browser sees it."""

from types import SimpleNamespace

import pytest
from browser import Window, serving
from conftest import pictured
from proxies import proxy

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=["tls", "plain"], ids=["taken off", "passed on"])
def server(tmp_path_factory, models, ports, request):
    """A server whose path the proxy takes off on one of its ports, and passes on at the other."""
    scheme = "https" if request.param == "tls" else "http"
    settings = {"RUBRIC_MODEL": "tiny", "PUBLIC_URL": f"{scheme}://127.0.0.1:{ports[request.param]}/rubric"}
    with serving(tmp_path_factory.mktemp("server"), models, **settings) as server:
        server.public = settings["PUBLIC_URL"]
        yield server


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_everything_a_visitor_does_stays_under_the_path(kind, server, ports, browser, tmp_path):
    with proxy(kind, tmp_path, server.port, **ports):
        window = Window(browser, SimpleNamespace(url=f"{server.public}/"), ignore_https_errors=True)
        page = window.page
        try:
            run = window.write("the old king", model="tiny", max_new_tokens=30)
            window.wait_until_over()
            assert run.startswith(f"{server.public}/r/")
            assert f'data-copy="{run}"' in window.context.request.get(f"{run}/share").text()
            assert window.story() == pictured(window.context.request.get(f"{run}.json").json()["samples"][0]["text"])
            page.click(".continuation [data-n]")
            page.wait_for_selector("#token .looked")
            page.click("button:has-text('Replay')")
            page.wait_for_selector("#replay .verdict")
            page.click("button:has-text('Continue')")
            page.wait_for_url(lambda url: url != run)
            window.wait_until_over()
            page.click(".family a")
            page.wait_for_url(run)
            page.click("text=Your sheets")
            page.fill("#q", "old king")
            page.wait_for_url("**/rubric/runs?q=old*")
            page.wait_for_selector(".runs li")
            page.click("a:has-text('New')")
            page.wait_for_selector(".cm-content")
            page.keyboard.insert_text("the old queen")
            page.click("#write-on")
            written = window.wait_until_written()["samples"][0]["text"]
            assert window.text() == pictured("the old queen" + written)
            assert page.url.startswith(f"{server.public}/s/")
            assert all("/rubric/" in address for address in window.asked)
            assert {cookie["path"] for cookie in window.context.cookies()} == {"/rubric"}
        finally:
            window.context.close()
        assert window.errors == []
