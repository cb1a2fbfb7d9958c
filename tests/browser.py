"""A real gunicorn and a real Chromium, for tests and for the README's picture."""

import functools
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from waiting import until, until_up

ROOT = Path(__file__).parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]
SHOWN = """[...document.querySelectorAll('.cm-line')].map(line => {
  const copy = line.cloneNode(true);
  copy.querySelectorAll('.cm-placeholder').forEach(one => one.remove());
  return copy.textContent;
}).join('\\n')"""
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
  Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible', configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def free_port() -> int:
    """Below those that connections go out from: so none takes it, not even while a server is down between two lives."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def migrate(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", "webapp", "db", "upgrade"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


@functools.cache
def empty_database() -> bytes:
    """The file that SQLite's tables are in before anything was written; made once, as it takes a while."""
    with tempfile.TemporaryDirectory() as folder:
        migrate({**os.environ, "RUBRIC_INSTANCE": folder, "DATABASE_URL": ""})
        return (Path(folder) / "rubric.sqlite").read_bytes()


class Server:
    """gunicorn as `make run` starts it, with a database of its own."""

    def __init__(self, folder: Path, **environment: str):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.log, self.database = folder / "server.log", folder / "instance" / "rubric.sqlite"
        self.environment = {
            **os.environ,
            "RUBRIC_INSTANCE": str(folder / "instance"),
            "RUBRIC_RATE_LIMIT": "100000 per minute",
            "RUBRIC_PRECISION": "float32",  # nothing to measure, and texts that repeat to the letter
            "RUBRIC_THREADS": "1",  # nothing to measure either
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **environment,
        }

    def start(self, *command: str, cwd: Path = ROOT, seconds=60) -> "Server":
        if self.environment.get("DATABASE_URL"):
            migrate(self.environment)
        elif not self.database.exists():
            self.database.parent.mkdir(parents=True, exist_ok=True)
            self.database.write_bytes(empty_database())
        with self.log.open("ab") as log:
            command = command or ("-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py"))
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=cwd, env=self.environment, stdout=log, stderr=log
            )
        until_up(self.process, self.ready, self.log, seconds)
        return self

    def ready(self) -> bool:
        try:
            return urllib.request.urlopen(self.url + "/readyz", timeout=2).status == 200
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        """SIGKILL to gunicorn and its worker, as when a machine's power goes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def stored(self, query: str, *values):
        """The first column of the first row that a question to its database finds.

        Whoever asks the server itself counts as watching, and is told what is not stored yet as well.
        """
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            row = connection.execute(query, values).fetchone()
            return row and row[0]


@contextmanager
def serving(folder: Path, models: Path, **environment: str) -> Iterator[Server]:
    """A server over these models; whoever kills it starts it again, or leaves it. It may print no traceback."""
    server = Server(folder, RUBRIC_MODELS=str(models), **environment).start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
    assert "Traceback" not in server.log.read_text()


class KeepRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def answer_to(request: urllib.request.Request) -> urllib.error.HTTPError:
    """What a form is answered with: a redirection, which is not followed, or a refusal; both are errors to urllib."""
    try:
        urllib.request.build_opener(KeepRedirect).open(request, timeout=60)
    except urllib.error.HTTPError as answer:
        return answer
    raise AssertionError(f"{request.full_url} neither redirects nor refuses")


def start_run(server, **fields) -> str:
    """Post the form as a browser does; returns the run's address."""
    data = urllib.parse.urlencode({"prompt": "Once upon a time", "seed": "1"} | fields).encode()
    answer = answer_to(urllib.request.Request(server.url + "/runs", data))
    assert answer.status == 303, answer.read()
    return server.url + answer.headers["Location"]


def get(url: str, **headers) -> str:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60).read().decode()


def chromium_path() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium():
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield browser
        browser.close()


def unfold(page) -> None:
    """Open what stands behind a sheet's "…"."""
    page.click("[data-do=more][aria-expanded=false]")


class Window:
    """One browser window of its own; notes console errors and every address it asks for."""

    def __init__(self, browser, server, **options):
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.server, self.errors, self.asked = server, [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def write(self, prompt, model="storyteller", **settings):
        """Send the form as a page without scripts does, and open the run's page; returns its address.

        A seed is given unless the test gives one: a small random model soon writes half characters, or ends, by chance.
        """
        fields = {"prompt": prompt, "model": model, "seed": 1} | settings
        form = {name: str(value) for name, value in fields.items()}
        address = self.server.url.rstrip("/") + "/runs"
        answer = self.context.request.post(address, form=form, max_redirects=0)
        assert answer.status == 303, answer.text()
        self.page.goto(urllib.parse.urljoin(address, answer.headers["location"]))
        return self.page.url

    def type(self, text, page="/"):
        """Open a sheet, and type at the end of its text."""
        self.page.goto(self.server.url + page)
        self.page.wait_for_selector(".cm-content")
        self.page.keyboard.press("Control+End")
        self.page.keyboard.insert_text(text)

    def reload(self):
        """Load the page anew; a sheet's editor comes after it."""
        self.page.reload()
        if self.page.query_selector("#sheet-state"):
            self.page.wait_for_selector(".cm-content")

    def text(self) -> str:
        """What the sheet's editor shows."""
        self.page.wait_for_selector(".cm-content")
        return self.page.evaluate(SHOWN)

    def wait_until_written(self) -> dict:
        """Wait until the sheet's model has written; returns its newest run as it is stored."""
        self.page.wait_for_url("**/s/*")
        self.page.wait_for_selector(".versions a", state="attached")
        self.page.wait_for_selector(".acts:not(.writing)")
        return self.stored(self.page.evaluate("document.querySelector('.versions a').href"))

    def wait_until_over(self):
        self.page.wait_for_selector("#tools >> text=Retry")

    def over(self) -> bool:
        return self.page.query_selector("#tools >> text=Retry") is not None

    def hide(self, hidden: bool) -> None:
        """Let the page believe that its tab is not seen any more, or is seen again."""
        self.page.evaluate(HIDE, hidden)

    def grows(self, characters=20) -> None:
        """Wait until so much more is shown of the first sample, or all of it."""
        length = len(self.story())
        until(lambda: len(self.story()) > length + characters or self.over(), what="more text")

    def story(self, sample=0) -> str:
        return self.page.evaluate(f"document.getElementById('sample-{sample}').textContent")

    def stored(self, url) -> dict:
        return self.context.request.get(f"{url}.json").json()


@contextmanager
def opened(browser, server, **options) -> Iterator[Window]:
    """A window that is closed in the end, and in which no script may have failed."""
    window = Window(browser, server, **options)
    yield window
    window.context.close()
    assert window.errors == [], window.errors
