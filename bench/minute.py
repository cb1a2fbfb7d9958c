"""How soon the first page is there, a press is red and Tab pale red, and whether anything moves: `python -m bench.minute`.

A real gunicorn with an idle storyteller and a real Chromium on the same cores; medians and the worst of LOADS. Printed with
the bound of each: kilobytes of the first load as they came over the line; milliseconds to the first paint; from the key that
is pressed to the frame with the first red character, and with the first pale red one; the layout's shift (CLS, as
https://web.dev/articles/cls defines it: shifts within half a second of a key do not count) over a run of RUN tokens.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Server, chromium
from waiting import until

LOADS, RUN = 9, 400
SIZE = "performance.getEntries().reduce((sum, one) => sum + (one.transferSize ?? 0), 0)"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
WATCH = """([key, selector]) => {
  window.found = 0;
  let pressed = 0;
  addEventListener('keydown', (event) => { if (event.key === key) pressed = event.timeStamp; }, {capture: true});
  const look = () => {
    if (pressed && document.querySelector(selector)?.textContent) requestAnimationFrame((now) => { window.found = now - pressed; });
    else requestAnimationFrame(look);
  };
  look();
}"""
SHIFTS = """() => {
  window.shift = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((one) => { if (!one.hadRecentInput) window.shift += one.value; }))
    .observe({type: 'layout-shift', buffered: true});
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(Path(folder)).start()
        try:
            tell("first load, kB", [load(browser, server.url, SIZE) / 1000 for _ in range(3)], "under 400")
            tell("first paint, ms", [load(browser, server.url, PAINT) for _ in range(LOADS)], "no later than before")
            red = [waited(browser, server.url, "Control+Enter", "Enter", "#editor .red") for _ in range(LOADS)]
            tell("press to first red, ms", red, "under 150")
            pale = [
                waited(browser, server.url, "Tab", "Tab", "#suggestions .red, #suggestions li") for _ in range(LOADS)
            ]
            tell("Tab to first pale red, ms", pale, "none set")
            tell(f"layout shift over {RUN} tokens", [shift(browser, server.url)], "under 0.02")
        finally:
            server.stop()


def tell(what: str, values: list[float], bound: str) -> None:
    print(f"{what:28}{median(values):9.3g}   worst {max(values):8.3g}   ({len(values)} times; {bound})", flush=True)


def load(browser, address: str, asked: str) -> float:
    """A number of the first page, to somebody who was never there."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    found = until(lambda: page.evaluate(asked), what="a figure of the first load")
    context.close()
    return found


def begun(browser, address: str, query: str = ""):
    """A new visitor's page with a beginning typed in it, and stored."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{address}/?model=storyteller&seed=1{query}")
    page.wait_for_selector(".cm-content")
    page.keyboard.insert_text("Once upon a time")
    page.wait_for_timeout(1500)
    return page


def waited(browser, address: str, keys: str, key: str, selector: str) -> float:
    """Milliseconds from a key to the frame in which something says something."""
    page = begun(browser, address)
    page.evaluate(WATCH, [key, selector])
    page.keyboard.press(keys)
    found = until(lambda: page.evaluate("window.found"), what="the first red")
    page.wait_for_selector(".acts:not(.writing)")
    page.context.close()
    return found


def shift(browser, address: str) -> float:
    page = begun(browser, address, f"&max_new_tokens={RUN}&min_new_tokens={RUN}")
    page.evaluate(SHIFTS)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Versions (1)", state="attached")
    page.wait_for_selector(".acts:not(.writing)", timeout=120_000)
    found = page.evaluate("window.shift")
    page.context.close()
    return found


if __name__ == "__main__":
    main()
