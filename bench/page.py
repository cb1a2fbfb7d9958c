"""How fast a run of 1,000 tokens is on the screen, and how smoothly it scrolls: `python -m bench.page`.

A real gunicorn and a real Chromium on the same cores. Printed for each lens, medians of five loads: milliseconds from the
request to the load event, and what of it went into script, style and layout; then the longest and the median frame while
the page is scrolled through (60 frames a second are 16.7 ms). The bound: the page must be there within a second.
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

TOKENS, LOADS = 1000, 5
LENSES = ("author", "probability", "rank", "entropy")
TIMES = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")
SCROLL = """() => new Promise(done => {
  const frames = [];
  let last = performance.now();
  const step = now => {
    frames.push(now - last);
    last = now;
    scrollBy(0, 60);
    if (innerHeight + scrollY < document.body.scrollHeight - 2 && frames.length < 400) requestAnimationFrame(step);
    else done(frames.slice(1));
  };
  requestAnimationFrame(step);
})"""


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
        finally:
            server.stop()


def write(page, address: str) -> str:
    """Make the run; its address."""
    page.goto(address)
    page.fill("#prompt", "Once upon a time")
    page.click("summary")
    for name, value in {"max_new_tokens": TOKENS, "seed": 1, "temperature": 2, "top_k": 0}.items():
        page.fill(f"[name={name}]", str(value))
    page.click("text=Write on")
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


def metrics(client) -> dict:
    return {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
