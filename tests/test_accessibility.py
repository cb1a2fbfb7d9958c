"""axe-core finds nothing that would shut anybody out, on any page, in light and in dark."""

import json
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from browser import Window, get, serving, unfold
from conftest import ROOT
from operating import operator_cookie
from test_curve import RUN
from waiting import until
from werkzeug.security import generate_password_hash

pytestmark = pytest.mark.long

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PATHS = [
    "/",
    "/?prompt=Once+upon+a+time",
    "/?preset=steady&temperature=1.1",
    "/?parent={one}",
    "/?parent={many}&sample=1",
    "/r/{one}",
    "/r/{many}",
    "/r/{child}",
    "/r/{one}/plain",
    "/r/{one}/embed",
    "/r/{one}/share",
    "/r/{deleted}",
    "/r/{one}/beside/{other}",
    "/r/{one}/shift/{score}",
    "/runs",
    "/runs?q=old",
    "/runs?q=nowhere",
    "/r/{one}/report",
    "/stored",
    "/models/storyteller",
    "/models/trained",
    "/models/broken",
    "/no-such-page",
    "/r/no-such-run",
]
OF_THE_OPERATOR = [
    *("/workshop", "/workshop/bring", "/workshop/models", "/workshop/teach", "/workshop/well"),
    *("/workshop/written", "/workshop/written?which=hidden", "/workshop/written/run/{one}", "/workshop/blocks"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    (models / "broken").mkdir()
    trained = shutil.copytree(models / "tiny", models / "trained")
    (trained / "run.json").write_text(json.dumps(RUN))
    with serving(tmp_path_factory.mktemp("server"), models) as server:
        yield server
    (models / "broken").rmdir()
    shutil.rmtree(trained)


@contextmanager
def private(server):
    """A server that shows nothing without a password meanwhile."""
    file = server.folder / "instance" / "password"
    file.write_text(generate_password_hash("open sesame"))
    try:
        yield
    finally:
        file.unlink()


@contextmanager
def visiting(browser, server, prompt: str, text: str, **options):
    """One visitor's window, the runs this visitor started with a prompt, and a sheet with a text."""
    window = Window(browser, server, **options)

    def start(path="/runs", **fields) -> str:
        form = {"prompt": prompt, "model": "tiny", "max_new_tokens": "30", "seed": "1"} | fields
        answer = window.context.request.post(server.url + path, form=form, max_redirects=0)
        assert answer.status == 303, answer.text()
        run = answer.headers["location"]
        if fields.get("model") != "slow":
            get(f"{server.url}/r/{run.rsplit('/', 1)[1]}/events")  # to its end
        return run.removeprefix("/r/")

    one = start()
    about = {"key": "k" * 22, "edits": [[0, 0, text]]}
    assert window.context.request.post(f"{server.url}/sheets", data=about).status == 201
    runs = {"one": one, "many": start(samples="3"), "child": start(f"/r/{one}/continue"), "deleted": start()}
    window.context.request.post(f"{server.url}/r/{runs['deleted']}/delete")
    runs["other"] = start(f"/r/{one}/beside", model="other").rsplit("/", 1)[1]
    runs["score"] = start(f"/r/{one}/shift", model="other").rsplit("/", 1)[1]
    yield SimpleNamespace(window=window, page=window.page, url=server.url, runs=runs, start=start)
    window.context.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def visit(browser, server, request):
    """A visitor of either taste."""
    if not AXE.exists():
        pytest.fail("axe-core is missing: `make node_modules/ready-dev` fetches it.", pytrace=False)
    with visiting(browser, server, "The old king", "An old sheet", color_scheme=request.param) as visit:
        yield visit


UNFOLD = """() => {
  const folded = document.querySelectorAll('details:not([open])');
  folded.forEach(details => details.open = true);
  return folded.length > 0;
}"""
SETTLE = "document.getAnimations().filter(one => one instanceof CSSTransition).forEach(one => one.finish())"


def violations(page) -> str:
    """What axe-core objects to on the page as it is, and with everything unfolded; one line for each element."""
    page.evaluate(AXE.read_text())  # a script element would be against our Content-Security-Policy
    found = judge(page)
    if page.evaluate(UNFOLD):
        found |= judge(page)
    return "\n".join(sorted(found))


def judge(page) -> set[str]:
    page.evaluate(SETTLE)
    return {
        f"{rule['id']} at {' '.join(map(str, node['target']))}: {' '.join(node['failureSummary'].split())}"
        for rule in page.evaluate("axe.run()")["violations"]
        for node in rule["nodes"]
    }


@pytest.mark.parametrize("path", PATHS)
def test_a_page_shuts_nobody_out(visit, path):
    answer = visit.page.goto(visit.url + path.format(**visit.runs))
    assert answer.status == (404 if "no-such" in path else 410 if "deleted" in path else 200)
    assert not (found := violations(visit.page)), found


@pytest.mark.parametrize("path", OF_THE_OPERATOR)
def test_a_page_of_the_operator_s_shuts_nobody_out(visit, server, path):
    name, value = operator_cookie(server.folder / "instance")
    visit.window.context.add_cookies([{"name": name, "value": value, "url": server.url}])
    answer = visit.page.goto(visit.url + path.format(**visit.runs))
    found = violations(visit.page)
    visit.window.context.clear_cookies(name=name)
    assert answer.status == 200
    assert not found, found


def test_the_page_that_asks_for_the_password_shuts_nobody_out(visit, server):
    with private(server):
        visit.page.goto(visit.url + "/runs")
        assert not (found := violations(visit.page)), found
        visit.page.fill("#password", "a wrong one")
        visit.page.click("button")
        visit.page.wait_for_selector("#wrong")
        assert not (found := violations(visit.page)), found


@pytest.mark.parametrize("send", ["form.requestSubmit()", "form.submit()"], ids=["by htmx", "without scripts"])
def test_a_form_with_a_complaint_shuts_nobody_out(visit, send):
    page = visit.page
    page.goto(visit.url)
    unfold(page)
    page.fill("[name=temperature]", "hot")
    page.eval_on_selector("form.write", f"form => {send}")
    page.wait_for_selector(".said")
    assert not (found := violations(page)), found


def test_a_run_that_is_being_written_shuts_nobody_out(visit):
    run, page = visit.start(model="slow", max_new_tokens="4096", samples="2"), visit.page
    page.goto(f"{visit.url}/r/{run}")
    until(lambda: len(visit.window.story()) > 20)
    found = violations(page)
    page.keyboard.press("Escape")
    visit.window.wait_until_over()
    assert not found, found


@pytest.mark.parametrize("lens", ["probability", "rank", "entropy"])
def test_a_lens_and_a_token_s_panel_shut_nobody_out(visit, lens):
    page = visit.page
    page.goto(f"{visit.url}/r/{visit.runs['one']}")
    page.check(f"[name=lens][value={lens}]")
    page.focus("#story")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#token .bars")
    assert not (found := violations(page)), found


@pytest.mark.parametrize("lens", ["author", "probability"])
def test_a_sheet_with_tries_something_set_aside_and_a_panel_shuts_nobody_out(visit, lens):
    page = visit.page
    visit.window.type("The old king said", "/?model=storyteller&max_new_tokens=12&seed=1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Enter")
    visit.window.wait_until_written()
    page.keyboard.press("Alt+r")
    page.wait_for_selector("text=2 / 2")
    visit.window.wait_until_written()
    page.check(f"[name=lens][value={lens}]")
    page.locator("#editor .red").first.click()
    page.wait_for_selector("#token .bars")
    assert not (found := violations(page)), found


def test_a_sheet_that_is_written_a_word_pointed_at_and_what_is_behind_the_dots_shut_nobody_out(visit):
    page = visit.page
    visit.window.type("Once upon a time", "/?model=slow&max_new_tokens=4096&seed=1&temperature=1.1")
    page.keyboard.press("Control+Enter")
    until(lambda: page.inner_text("#written") != "")
    assert not (found := violations(page)), found
    page.keyboard.press("Escape")
    visit.window.wait_until_written()
    page.locator("#editor .red").last.hover()
    page.wait_for_selector(".peek .share")
    assert not (found := judge(page)), found
    unfold(page)
    assert not (found := violations(page)), found


def test_suggestions_shut_nobody_out(visit):
    page = visit.page
    visit.window.type("The old king said", "/?model=storyteller&seed=1")
    page.keyboard.press("Tab")
    page.wait_for_selector(".suggestions .note.unseen", state="attached")
    page.keyboard.press("ArrowDown")
    assert not (found := violations(page)), found
    page.keyboard.press("Control+ArrowRight")
    until(lambda: page.locator(".suggestions li").count() == 1)
    assert not (found := judge(page)), found


@pytest.mark.parametrize("kind", ["sheet", "version"])
def test_the_open_share_dialog_shuts_nobody_out(visit, kind):
    page = visit.page
    visit.window.type("The old king said", "/?model=tiny&max_new_tokens=12&seed=1")
    page.keyboard.press("Control+Enter")
    visit.window.wait_until_written()
    page.click(".acts [data-share]")
    page.check(f"dialog [value={kind}]")
    assert not (found := violations(page)), found


SIZES = {"phone": {"width": 390, "height": 780}, "zoomed": {"width": 640, "height": 450}}  # 200 % of 1280 by 900
FULL = {"problem": "The line is full: 64 runs are waiting; please try again in a moment.", "field": None, "values": {}}


def states(visit):
    """Leads a sheet from one state to the next; yields the name of each."""
    window, page = visit.window, visit.page
    window.type("The old king said ", "/?model=storyteller&max_new_tokens=12&min_new_tokens=12&seed=1&temperature=1.1")
    yield "typing"
    until(lambda: "a space at the end" in page.inner_text("#sheet-status"))
    yield "a hint"
    page.keyboard.press("Backspace")
    page.keyboard.press("Tab")
    page.wait_for_selector(".suggestions .note.unseen", state="attached")
    yield "suggestions"
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".acts.writing")
    yield "writing"
    window.wait_until_written()
    page.keyboard.press("Alt+r")
    page.wait_for_selector("text=2 / 2")
    window.wait_until_written()
    yield "tries"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Alt+Enter")
    page.wait_for_selector("#token .bars")
    yield "a word's panel"
    page.keyboard.press("Escape")
    page.click(".acts [data-share]")
    page.wait_for_selector("dialog .address")
    yield "sharing"
    page.keyboard.press("Escape")
    page.fill("#length", "9999")
    page.click("#write-on")
    page.wait_for_selector("#problem [role=alert]")
    yield "a refused value"
    page.keyboard.press("Escape")
    page.fill("#length", "12")
    page.route("**/write", lambda route: route.fulfill(status=503, json=FULL))
    page.click("#write-on")
    page.wait_for_selector("#problem [role=alert]")
    yield "a full line"
    page.unroute("**/write")
    window.context.set_offline(True)
    until(lambda: page.inner_text("#sheet-status").startswith("You are offline."))
    yield "offline"
    window.context.set_offline(False)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_no_state_of_a_sheet_shuts_anybody_out_or_is_wider_than_a_small_window(visit, size):
    page, wide = visit.page, visit.page.viewport_size
    page.set_viewport_size(size)
    found = {}
    for state in states(visit):
        page.evaluate(AXE.read_text())
        found[state] = judge(page)
        if page.evaluate("document.documentElement.scrollWidth") > size["width"]:
            found[state].add("it is wider than the window")
    page.set_viewport_size(wide)
    assert not any(found.values()), found
    assert len(found) == 10
