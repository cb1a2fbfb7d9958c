"""A town in one process of its own: people who write, people who watch, a crawler, and somebody who asks whether the server lives.

They come back when they are cut off or told to, as pages do, also while the server is down between two lives. What each was
told, and how often what was answered, is for whoever called it to judge. Its pauses are those of the people it stands for.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from crowd import Answer, request_of

CURSOR = re.compile(rb"^id: (\S+)$", re.M)
ENDED = re.compile(rb"^event: (done|busy|pause)$", re.M)
PACE = 1.0  # seconds after which somebody who was cut off comes back
WRITES = 4.0  # seconds at the most that somebody reads before writing again
CRAWLS, ASKS = 0.1, 0.25  # seconds between two pages of the crawler, and between two looks at the server
JUDGED = 5  # of so many that are watched one is looked at afterwards
KEPT = 60  # addresses of the newest runs that viewers and the crawler choose from
PAGES = (
    "/",
    "/runs",
    "/v1",
    "/busy",
    "/readyz",
    "/robots.txt",
    "/no-such-page",
    "/r/none",
    "/s/none",
    "/static/rubric.css",
)
PARTS = ("", ".json", ".txt", ".png", "/share", "/samples/0", "/embed")


def live(port: int, seconds: float, writers: int, viewers: int, tokens: int, file: Path) -> subprocess.Popen:
    """Begin; after `seconds` nobody begins anything, all see to the end of what they watch, and `outcome` has it.

    `file` gets a line of JSON for each run that was begun, and for some of those that were watched: `[run, whether it was
    begun, pieces]`, where the pieces are all events that came, one for each connection that it took.
    """
    wish = [str(value) for value in (port, seconds, writers, viewers, tokens, file)]
    return subprocess.Popen([sys.executable, __file__, *wish], stdout=subprocess.PIPE, text=True)


def outcome(town: subprocess.Popen, seconds: float) -> dict:
    """`answers`: how often each address was answered with which status; `impolite`: answers that said 5xx without
    Retry-After; `alive`: when each /healthz was asked, the seconds it took, and those by which the asker itself was late just then; `watched`: how many runs were, to their end;
    `refused`: how often somebody was told to come back; `down`: how often there was no answer."""
    out, _ = town.communicate(timeout=seconds)
    assert town.returncode == 0
    return json.loads(out)


class Town:
    def __init__(self, port: int, seconds: float, tokens: int, file: TextIO):
        self.port, self.tokens, self.file, self.until = port, tokens, file, time.monotonic() + seconds
        self.dice = random.Random(7)
        self.runs: list[str] = []
        self.answers, self.impolite, self.alive = Counter(), [], []
        self.watched = self.refused = self.down = 0

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.until

    async def live(self, writers: int, viewers: int) -> dict:
        people = [self.write(n) for n in range(writers)] + [self.view(n) for n in range(viewers)]
        await asyncio.gather(*people, self.crawl(), self.ask_whether_it_lives())
        fields = ("watched", "impolite", "alive", "refused", "down")
        return {name: getattr(self, name) for name in fields} | {"answers": sorted(self.answers.items())}

    async def write(self, number: int) -> None:
        """Somebody who writes, reads to the end, and writes again."""
        await asyncio.sleep(number * 0.05)
        while self.goes_on:
            fields = {"prompt": "Once upon a time", "seed": str(self.dice.randrange(2**32))}
            fields |= {"max_new_tokens": str(self.dice.randint(self.tokens // 4, self.tokens)), "top_k": "40"}
            answer = await self.ask("/runs", fields, page="/runs")
            if answer is None or answer.status != 303:
                await asyncio.sleep(PACE * self.dice.uniform(1, 3))
                continue
            run = answer.headers["Location"]
            self.runs.append(run)
            self.keep(run, True, await self.follow(run))
            await asyncio.sleep(self.dice.uniform(0, WRITES))

    async def view(self, number: int) -> None:
        """Somebody who watches one run after another."""
        await asyncio.sleep(number * 0.02)
        while self.goes_on:
            if not self.runs:
                await asyncio.sleep(PACE)
                continue
            run = self.dice.choice(self.runs[-KEPT:])
            pieces = await self.follow(run)
            self.watched += 1
            if self.watched % JUDGED == 0:
                self.keep(run, False, pieces)
            await asyncio.sleep(self.dice.uniform(0, PACE))

    def keep(self, run: str, begun: bool, pieces: list[str]) -> None:
        """Have it judged afterwards; it would be a lot of memory, and work beside the server's."""
        self.file.write(json.dumps([run, begun, pieces]) + "\n")

    async def follow(self, run: str) -> list[str]:
        """All that is sent of a run until it is over, however often the stream is cut."""
        pieces, last = [], None
        while True:
            got = await self.fetch(f"{run}/events", headers=[f"Last-Event-ID: {last}"] if last else [], page="events")
            body = b"" if got is None else got.body
            whole = body[: body.rfind(b"\n\n") + 2] if b"\n\n" in body else b""
            pieces.append(whole.decode())
            if found := CURSOR.findall(whole):
                last = found[-1].decode()
            how = (ENDED.findall(whole) or [b"cut"])[-1]
            if how == b"done":
                return pieces
            self.refused += how == b"busy"
            await asyncio.sleep(PACE * self.dice.uniform(0.5, 1.5) * (5 if how == b"busy" else 1))

    async def crawl(self) -> None:
        """A robot that reads all that there is, again and again."""
        while self.goes_on:
            parts = [self.dice.choice(self.runs[-KEPT:]) + part for part in PARTS] if self.runs else []
            for page in [*PAGES, *parts]:
                name = re.sub("/r/[^/.]{16}", "/r/ID", page)
                await self.ask(page, page=name)
                await asyncio.sleep(CRAWLS)

    async def ask_whether_it_lives(self) -> None:
        """Beside it, how late this process wakes up: on a machine that others use as well the server is not alone to blame."""
        while self.goes_on:
            begun = time.perf_counter()
            got = await self.ask("/healthz", page="/healthz")
            took, rests = time.perf_counter() - begun, time.perf_counter()
            await asyncio.sleep(ASKS)
            if got is not None:
                self.alive.append((time.time(), took, time.perf_counter() - rests - ASKS))

    async def ask(self, path: str, form: dict | None = None, page: str = "") -> "Got | None":
        return await self.fetch(path, form, page=page)

    async def fetch(self, path: str, form: dict | None = None, headers: list[str] | None = None, page: str = ""):
        """An answer as far as it came; None where there was no connection."""
        loop = asyncio.get_running_loop()
        request = request_of(path, form, headers or [])
        answer = Answer(request)
        try:
            await loop.create_connection(lambda: answer, "127.0.0.1", self.port)
        except OSError:
            self.down += 1
            return None
        with suppress(OSError):
            await answer.over
        got = Got.of(b"".join(answer.pieces))
        if got is None:
            self.down += 1
            return None
        self.answers[f"{page} {got.status}"] += 1
        if got.status >= 500 and "Retry-After" not in got.headers and path != "/readyz":
            self.impolite.append([page, got.status, got.body[:300].decode("utf-8", "replace")])
        return got


class Got:
    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    @classmethod
    def of(cls, data: bytes) -> "Got | None":
        """An answer, also one that was cut in its body; None where it was cut before."""
        head, there, body = data.partition(b"\r\n\r\n")
        if not there:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.title(): value for name, _, value in (line.partition(": ") for line in lines)}
        chunked = headers.get("Transfer-Encoding") == "chunked"
        return cls(int(first.split()[1]), headers, unchunked(body) if chunked else body)


def unchunked(body: bytes) -> bytes:
    """The pieces of a body that came in pieces, as far as they are whole."""
    found = []
    while True:
        size, there, rest = body.partition(b"\r\n")
        if not there or len(rest) < int(size, 16) or int(size, 16) == 0:
            return b"".join(found)
        found.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]


if __name__ == "__main__":
    port, seconds, writers, viewers, tokens = map(int, sys.argv[1:6])
    with open(sys.argv[6], "w") as file:
        json.dump(asyncio.run(Town(port, seconds, tokens, file).live(writers, viewers)), sys.stdout)
