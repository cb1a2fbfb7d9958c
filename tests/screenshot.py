"""Take the README's picture: the page in mid-stream. `make screenshot`, or `python -m tests.screenshot FILE`."""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from browser import Server, chromium

PROMPT = "Once upon a time there was a fox who wanted to see the sea."


def main(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(Path(folder)).start()
        try:
            page = browser.new_page(viewport={"width": 1100, "height": 760}, device_scale_factor=1.5)
            page.goto(f"{server.url}/?seed=12&max_new_tokens=400")
            page.wait_for_selector(".cm-content")
            page.keyboard.insert_text(PROMPT)
            page.keyboard.press("Control+Enter")
            deadline = time.time() + 20
            while page.evaluate("document.querySelector('.cm-content').textContent.length") < 420 + len(PROMPT):
                assert time.time() < deadline, "the text did not grow"
            page.screenshot(path=target)
        finally:
            server.stop()
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
