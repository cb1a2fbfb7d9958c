"""Behind nginx and Caddy, and over a connection that breaks: what is written arrives as it is written, and whole."""

import json
import urllib.error
import urllib.parse
import urllib.request
from types import SimpleNamespace

import pytest
from browser import Window, get, serving, start_run
from conftest import pictured
from cutter import Cutter
from proxies import proxy, proxy_path
from waiting import until

pytestmark = pytest.mark.long

TABS = 10  # over HTTP/1.1 a browser would open six connections to one server, and let the others wait


@pytest.fixture(scope="module")
def server(tmp_path_factory, models, ports):
    settings = {"RUBRIC_MODEL": "slow", "PUBLIC_URL": f"https://127.0.0.1:{ports['tls']}"}
    with serving(tmp_path_factory.mktemp("server"), models, **settings) as server:
        yield server


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def front(request, server, ports, tmp_path_factory):
    """A proxy: `url` is its address with TLS, `plain.url` the one without."""
    kind = request.param
    if not proxy_path(kind):
        pytest.fail(f"{kind} is missing: install it for the tests (on Debian: apt install {kind}).", pytrace=False)
    with proxy(kind, tmp_path_factory.mktemp(kind), server.port, **ports):
        plain = SimpleNamespace(url=f"http://127.0.0.1:{ports['plain']}")
        yield SimpleNamespace(url=f"https://127.0.0.1:{ports['tls']}", plain=plain)


@pytest.fixture
def window(browser, front):
    window = Window(browser, front, ignore_https_errors=True)
    yield window
    window.context.close()
    assert window.errors == []


def stored(server, run: str) -> dict:
    """A run as the server itself has it, whatever address of it `run` is."""
    return json.loads(get(server.url + urllib.parse.urlsplit(run).path + ".json"))


@pytest.mark.parametrize("view", ["events", "plain"])
def test_text_comes_through_in_steps_while_it_is_written(server, front, view):
    run = start_run(front.plain, max_new_tokens="200")
    pieces, states = [], []
    with urllib.request.urlopen(f"{run}/{view}", timeout=60) as answer:
        while piece := answer.read1(65536):
            pieces.append(piece)
            if len(pieces) == 3:
                states.append(stored(server, run)["state"])
    assert len(pieces) > 6
    assert states == ["writing"]


def test_a_form_posted_through_a_proxy_is_accepted_where_public_url_names_it(server, front, window):
    run = window.write("Once upon a time", model="tiny", max_new_tokens=20)
    window.wait_until_over()
    assert run.startswith(front.url + "/r/")
    assert window.story() == pictured(stored(server, run)["samples"][0]["text"])
    assert f'data-copy="{run}"' in window.context.request.get(f"{run}/share").text()


def test_a_form_of_another_site_is_refused_behind_a_proxy_too(front):
    request = urllib.request.Request(front.plain.url + "/runs", b"prompt=x", {"Origin": "https://other.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=60)


def test_ten_tabs_of_one_browser_stream_at_once_over_http_2(server, front, window):
    tabs = []
    try:
        for number in range(TABS):
            form = {"prompt": "Once", "model": "slow", "max_new_tokens": "4096", "seed": str(number)}
            answer = window.context.request.post(front.url + "/runs", form=form, max_redirects=0)
            tabs.append(window.context.new_page())
            tabs[-1].goto(front.url + answer.headers["location"])
        before = [grown(tab) for tab in tabs]
        until(lambda: all(grown(tab) > length + 20 for tab, length in zip(tabs, before, strict=True)))
        assert {stored(server, tab.url)["state"] for tab in tabs} == {"writing"}
        assert {tab.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") for tab in tabs} == {"h2"}
    finally:
        for tab in tabs:
            tab.keyboard.press("Escape")
    for tab in tabs:
        tab.wait_for_selector("#tools >> text=Retry", timeout=60_000)
        said = tab.evaluate("document.getElementById('sample-0').textContent")
        assert said == pictured(stored(server, tab.url)["samples"][0]["text"])


def grown(tab) -> int:
    return tab.evaluate("document.getElementById('sample-0').textContent.length")


@pytest.fixture
def bad_network(server):
    cutter = Cutter(server)
    yield cutter
    cutter.close()


def test_a_page_whose_connection_is_cut_twice_ends_with_exactly_the_stored_text(server, browser, bad_network):
    window = Window(browser, bad_network)
    asks_again = lambda: window.page.expect_request("**/events?*")  # noqa: E731
    try:
        run = window.write("Once upon a time 从前", model="slow", max_new_tokens=4096)
        window.grows(50)
        with asks_again():
            assert bad_network.cut() > 0
        window.grows(50)
        bad_network.refuse()
        with asks_again():
            assert bad_network.cut() > 0
        with asks_again():  # the first attempt was refused
            pass
        bad_network.allow()
        window.grows(50)
        window.page.keyboard.press("Escape")
        window.wait_until_over()
        made = stored(server, run)["samples"][0]
        assert made["finish_reason"] == "cancelled"
        assert window.story() == pictured(made["text"])
    finally:
        window.context.close()
