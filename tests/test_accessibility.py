"""axe-core finds nothing that would shut anybody out, on any page, in light and in dark."""

import json
import shutil
from types import SimpleNamespace

import pytest
from browser import Window, get, serving
from conftest import ROOT
from test_curve import RUN
from waiting import until

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
    "/r/{deleted}",
    "/r/{one}/beside/{other}",
    "/r/{one}/shift/{score}",
    "/runs",
    "/runs?q=old",
    "/runs?q=nowhere",
    "/models/storyteller",
    "/models/trained",
    "/models/broken",
    "/no-such-page",
    "/r/no-such-run",
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


@pytest.fixture(scope="module", params=["light", "dark"])
def visit(browser, server, request):
    """One visitor's window, and the runs this visitor started."""
    if not AXE.exists():
        pytest.fail("axe-core is missing: `make node_modules/ready-dev` fetches it.", pytrace=False)
    window = Window(browser, server, color_scheme=request.param)

    def start(path="/runs", **fields) -> str:
        form = {"prompt": "The old king", "model": "tiny", "max_new_tokens": "30", "seed": "1"} | fields
        answer = window.context.request.post(server.url + path, form=form, max_redirects=0)
        assert answer.status == 303, answer.text()
        run = answer.headers["location"]
        if fields.get("model") != "slow":
            get(f"{server.url}/r/{run.rsplit('/', 1)[1]}/events")  # to its end
        return run.removeprefix("/r/")

    one = start()
    runs = {"one": one, "many": start(samples="3"), "child": start(f"/r/{one}/continue"), "deleted": start()}
    window.context.request.post(f"{server.url}/r/{runs['deleted']}/delete")
    runs["other"] = start(f"/r/{one}/beside", model="other").rsplit("/", 1)[1]
    runs["score"] = start(f"/r/{one}/shift", model="other").rsplit("/", 1)[1]
    yield SimpleNamespace(window=window, page=window.page, url=server.url, runs=runs, start=start)
    window.context.close()


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


@pytest.mark.parametrize("send", ["form.requestSubmit()", "form.submit()"], ids=["by htmx", "without scripts"])
def test_a_form_with_a_complaint_shuts_nobody_out(visit, send):
    page = visit.page
    page.goto(visit.url)
    page.click("summary")
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
