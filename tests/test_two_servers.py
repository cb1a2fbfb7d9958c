"""Two real gunicorns over one PostgreSQL: each shows, stops and goes on with the other's runs."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookies import SimpleCookie

import pytest
from browser import Server, answer_to
from conftest import parse_events, pictured, taken_in
from operating import operator_cookie
from sqlalchemy import create_engine, text
from waiting import until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def both(postgresql, tmp_path_factory, models):
    """Two servers, with a database of their own."""
    folder, name = tmp_path_factory.mktemp("two"), "two_servers"
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    common = {"RUBRIC_MODELS": str(models), "RUBRIC_MODEL": "slow", "RUBRIC_THREADS": "1", "SECRET_KEY": "of both"}
    common["DATABASE_URL"] = f"{postgresql.rpartition('/')[0]}/{name}"
    servers = []
    for part in ("a", "b"):
        (folder / part).mkdir()
        servers.append(Server(folder / part, **common).start())
    yield servers
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def servers(both):
    for server in both:
        if server.process.poll() is not None:  # the last test has killed it
            server.start()
    return both


class Person:
    """Somebody with cookies that both servers know."""

    def __init__(self):
        self.cookies = SimpleCookie()

    def post(self, url: str, **fields) -> urllib.error.HTTPError:
        """Send a form; the answer is a redirection or a refusal."""
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), {"Cookie": cookies})
        answer = answer_to(request)
        self.cookies.load(answer.headers.get("Set-Cookie", ""))
        return answer

    def start(self, server, **fields) -> str:
        """Start a run; returns its path."""
        answer = self.post(server.url + "/runs", prompt="Once upon a time", model="slow", **({"seed": 1} | fields))
        assert answer.status == 303
        return answer.headers["Location"]


class Viewer:
    """Reads a run's events on a thread of its own, comes back after a pause, and notes when each text arrived."""

    def __init__(self, server, run):
        self._url, self.text, self.steps, self.end, self.last = f"{server.url}{run}/events", "", [], None, None
        self.told = ""  # what its last piece of the page was
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while self.end in (None, "pause"):
            headers = {"Last-Event-ID": self.last} if self.last else {}
            with urllib.request.urlopen(urllib.request.Request(self._url, headers=headers), timeout=60) as answer:
                block = ""
                while line := answer.readline().decode():
                    block += line
                    if line == "\n":
                        self._take(parse_events(block)[0])
                        block = ""

    def _take(self, event):
        if "event" not in event:
            self.told = event["data"]
        self.last = event.get("id", self.last)
        if (text := taken_in(self.text, event)) != self.text:
            self.text = text
            self.steps.append((time.monotonic(), len(text)))
        if event.get("event") in ("done", "pause"):
            self.end = event["event"]

    def wait(self) -> "Viewer":
        self._thread.join(100)
        assert self.end == "done"
        return self


def stored(server, run) -> dict:
    return json.load(urllib.request.urlopen(f"{server.url}{run}.json", timeout=60))


def said(server, run) -> list:
    return [([t["id"] for t in s["tokens"]], s["text"], s["finish_reason"]) for s in stored(server, run)["samples"]]


def without_address(run: dict) -> dict:
    return {key: value for key, value in run.items() if key != "url"}


def test_a_viewer_of_one_server_sees_a_run_of_the_other_live_and_both_then_tell_the_same(servers):
    a, b = servers
    person = Person()
    runs = [person.start(a, max_new_tokens=200), person.start(b, max_new_tokens=40, samples=3, seed=2)]
    here, there = Viewer(a, runs[0]), Viewer(b, runs[0])
    for viewer in (here, there, Viewer(a, runs[1]), Viewer(b, runs[1])):
        viewer.wait()
    assert len(there.steps) > 4
    assert there.text == here.text
    late = [
        next(when for when, size in there.steps if size >= seen) - then
        for then, seen in here.steps
        if seen <= len(there.text)
    ]
    print(
        f"behind by {sum(late) / len(late):.2f} s on average, {max(late):.2f} s at the most, {len(there.steps)} steps"
    )
    assert max(late) < 5
    for run in runs:
        until(lambda run=run: stored(a, run)["state"] == stored(b, run)["state"] == "done", what="the end of a run")
        assert without_address(stored(a, run)) == without_address(stored(b, run))
    assert pictured(stored(b, runs[0])["samples"][0]["text"]) == there.text


def test_stop_on_one_server_ends_a_run_of_the_other_but_only_for_its_owner(servers):
    a, b = servers
    owner = Person()
    run = owner.start(a, max_new_tokens=4096)
    here, there = Viewer(a, run), Viewer(b, run)
    until(lambda: there.text, what="text on the other server")
    assert Person().post(f"{b.url}{run}/stop").status == 422
    size = len(there.text)
    until(lambda: len(there.text) > size, what="more text after a stranger's click")
    assert owner.post(f"{b.url}{run}/stop").status == 303
    assert here.wait().text == there.wait().text
    assert stored(a, run)["samples"][0]["finish_reason"] == "cancelled"
    assert without_address(stored(a, run)) == without_address(stored(b, run))


def test_a_run_of_a_killed_server_goes_on_where_it_is_watched_with_the_text_it_would_have_had(servers):
    a, b = servers
    undisturbed, run = Person().start(b, max_new_tokens=200, seed=5), Person().start(a, max_new_tokens=200, seed=5)
    there, other = Viewer(b, run), Viewer(b, undisturbed)
    until(lambda: len(there.text) > 60, what="text on the other server")
    a.kill()
    killed = time.monotonic()
    there.wait()
    before = [when for when, _ in there.steps if when < killed + 1]
    print(f"went on after {there.steps[len(before)][0] - killed:.1f} s")
    assert there.text == other.wait().text
    until(lambda: stored(b, run)["state"] == "done", what="the end of the run")
    assert said(b, run) == said(b, undisturbed)
    a.start()
    assert without_address(stored(a, run)) == without_address(stored(b, run))


def test_a_server_that_is_shut_down_hands_its_runs_over_at_once(servers):
    a, b = servers
    run = Person().start(a, max_new_tokens=300)
    there = Viewer(b, run)
    until(lambda: len(there.text) > 60, what="text on the other server")
    told = time.monotonic()
    a.stop()  # until its process has ended; the other may have written all of it by then
    print(f"the other had gone after {time.monotonic() - told:.1f} s")
    until(lambda: there.end, what="the end")
    assert there.wait().text == pictured(stored(b, run)["samples"][0]["text"])
    assert stored(b, run)["samples"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_what_the_operator_takes_down_on_one_server_cuts_off_who_watches_on_the_other(servers, what):
    a, b = servers
    owner, operator = Person(), Person()
    run = owner.start(a, max_new_tokens=4096)
    viewers = [Viewer(a, run), Viewer(b, run)]
    for viewer in viewers:
        until(lambda viewer=viewer: viewer.text, what="text on both servers")
    name, value = operator_cookie(b.folder / "instance")
    operator.cookies[name] = value
    told = time.monotonic()
    assert operator.post(f"{b.url}/workshop/written/run/{run[3:]}/{what}").status == 303
    for viewer in viewers:
        viewer.wait()
        assert "whoever runs this server has taken it down" in viewer.told
    print(f"cut off after {time.monotonic() - told:.2f} s")
    for server in servers:
        for end in ("", ".png", ".txt", "/embed"):
            with pytest.raises(urllib.error.HTTPError, match="410"):
                urllib.request.urlopen(f"{server.url}{run}{end}", timeout=60)
