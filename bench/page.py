"""How fast a run of 1,000 tokens is on the screen, how smoothly it scrolls, and what a key costs in a sheet of 5,000 tokens:
`python -m bench.page`.

A real gunicorn and a real Chromium on the same cores. Printed for each lens, medians of five loads: milliseconds from the
request to the load event, and what of it went into script, style and layout; then the longest and the median frame while
the page is scrolled through (60 frames a second are 16.7 ms). The bound: the page must be there within a second.

Then the browser's main thread's own time for a key, until the frame with it is painted: in milliseconds for each of KEYS
keys at the beginning, in the middle and at the end of one paragraph, with each lens and without. The bound is 16 ms.
"""

import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Server, chromium
from waiting import until

TOKENS, LOADS = 1000, 5
LONG, KEYS = 2500, 40  # tokens of each of two writings, which are one paragraph
LENSES = ("author", "probability", "rank", "entropy")
TIMES = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")
SCROLL = """() => new Promise(done => {
  const frames = [];
  let last = performance.now();
  scrollTo(0, 0); // a page that was loaded again is where it was
  const step = now => {
    frames.push(now - last);
    last = now;
    scrollBy(0, 60);
    if (innerHeight + scrollY < document.body.scrollHeight - 2 && frames.length < 400) requestAnimationFrame(step);
    else done(frames.slice(1));
  };
  requestAnimationFrame(step);
})"""

CARET = """(part) => {
  const walker = document.createTreeWalker(document.querySelector('.cm-line'), NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  let at = Math.round(part * nodes.reduce((sum, node) => sum + node.data.length, 0));
  const node = nodes.find((one) => at <= one.data.length || ((at -= one.data.length), false));
  document.querySelector('.cm-content').focus();
  getSelection().collapse(node, at);
  node.parentElement.scrollIntoView({block: part ? 'end' : 'start'});
}"""
LENGTH = "document.querySelector('.cm-line').textContent.length"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(Path(folder)).start()
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            url = write(page, server.url)
            stored = json.load(urllib.request.urlopen(url + ".json"))
            size = len(urllib.request.urlopen(url).read())
            print(f"{sum(len(s['tokens']) for s in stored['samples'])} tokens, a page of {size / 1000:.0f} kB")
            print("lens          load ms   script   style   layout   longest frame   median frame")
            for lens in LENSES:
                show(page, url, lens)
            sheet(page, server.url)
            print("lens          beginning   middle      end")
            for lens in LENSES:
                print(f"{lens:12}" + "".join(f"{cost:9.1f}" for cost in keys(page, lens)), flush=True)
        finally:
            server.stop()


def write(page, address: str) -> str:
    """Make the run; its address."""
    fields = {
        "prompt": "Once upon a time",
        "max_new_tokens": TOKENS,
        "min_new_tokens": TOKENS,
        "seed": 1,
        "temperature": 2,
        "top_k": 0,
    }
    form = {name: str(value) for name, value in fields.items()}
    answer = page.context.request.post(address + "/runs", form=form, max_redirects=0)
    page.goto(address + answer.headers["location"])
    page.wait_for_selector("#tools >> text=Retry", timeout=120_000)
    return page.url


def show(page, url: str, lens: str) -> None:
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable")
    rows = []
    for _ in range(LOADS):
        page.goto("about:blank")
        before = metrics(client)
        page.goto(url, wait_until="load")
        page.check(f"[name=lens][value={lens}]")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        after = metrics(client)
        load = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        rows.append((load, *(1000 * (after[name] - before[name]) for name in TIMES)))
    frames = page.evaluate(SCROLL)
    load, *parts = (median(column) for column in zip(*rows, strict=True))
    cells = "".join(f"{part:9.0f}" for part in parts)
    print(f"{lens:12}{load:9.0f}{cells}{max(frames):16.1f}{median(frames):15.1f}", flush=True)


def sheet(page, address: str) -> None:
    """Make the sheet."""
    page.goto(f"{address}/?max_new_tokens={LONG}&min_new_tokens={LONG}&seed=1&banned_phrases=%5Cn")
    page.wait_for_selector(".cm-content")
    page.keyboard.insert_text("Once upon a time")
    for written in (1, 2):
        page.keyboard.press("Control+End")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(f"text=Versions ({written})", state="attached")
        page.wait_for_selector(".acts:not(.writing)", timeout=120_000)
    print(f"a paragraph of {page.evaluate(LENGTH):,} characters")


def keys(page, lens: str) -> list[float]:
    """Milliseconds of the main thread for a key, at three places of the text."""
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable", {"timeDomain": "threadTicks"})  # whoever else uses the cores does not count
    page.check(f"[name=lens][value={lens}]")
    found, length = [], page.evaluate(LENGTH)
    for place in (0, 0.5, 1):
        page.evaluate(CARET, place)
        page.wait_for_timeout(2000)  # what was typed before is stored
        before = metrics(client)
        for _ in range(KEYS):
            page.keyboard.press("x")
            page.evaluate("() => new Promise(requestAnimationFrame)")
        found.append(1000 * (metrics(client)["TaskDuration"] - before["TaskDuration"]) / KEYS)
        take_back(page, length)
    return found


def take_back(page, length: int) -> None:
    """Undo what was typed into a text that had this length: each key is measured on the same text."""
    while (now := page.evaluate(LENGTH)) > length:
        page.keyboard.press("Control+z")
        until(lambda now=now: page.evaluate(LENGTH) < now, what="an undo")


def metrics(client) -> dict:
    return {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
