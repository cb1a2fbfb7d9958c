"""A crowd of viewers in one process of its own: it starts runs, watches them, and asks for pages meanwhile.

It shares the machine with the server that it measures, so it does as little as can be: one thread that gathers bytes and
notes when they came. Whoever called it looks at them afterwards. Its pauses are those of the people it stands for.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from urllib.parse import urlencode

APART = 0.01  # seconds between two that come
PAUSE = 0.02  # seconds between two pages that are asked for
BUSY = re.compile(rb"^event: busy\nretry: (\d+)$", re.M)


def gather(port: int, forms: list[dict], viewers: int, apart: float = APART) -> dict:
    """Begin runs with these fields in their forms; let `viewers` watch each of them from its beginning to its end.

    Returns `runs`: their addresses; `streams`: for each run, all that each viewer was sent; `pages`: for each address
    the seconds that each answer took; `refused`: how often a viewer was told to come back; `seconds` in all, and `cpu`:
    how many of them the crowd itself was at work.
    """
    wish = json.dumps({"port": port, "forms": forms, "viewers": viewers, "apart": apart})
    out = subprocess.run([sys.executable, __file__], input=wish, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


class Answer(asyncio.Protocol):
    """All that comes back on a request until the server closes, and when the last of it came."""

    def __init__(self, request: bytes):
        self.request, self.pieces, self.last = request, [], 0.0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.last = time.perf_counter()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error) if error else self.over.set_result(None)

    def read(self) -> HTTPResponse:
        """Raises when the server has cut it."""
        answer = HTTPResponse(self)
        answer.begin()
        return answer

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(b"".join(self.pieces))


def request_of(path: str, form: dict | None = None, headers: Iterable[str] = ()) -> bytes:
    """What a browser sends that asks for a page, or sends a form."""
    body = urlencode(form or {}).encode()
    head = [f"{'POST' if form else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    head += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"] if form else []
    return "\r\n".join([*head, "", ""]).encode() + body


class Crowd:
    def __init__(self, port: int, apart: float):
        self.port, self.apart = port, apart
        self.runs: list[str] = []
        self.pages: dict[str, list[float]] = {}
        self.refused = 0

    async def watch(self, forms: list[dict], viewers: int) -> dict:
        asking = asyncio.create_task(self.ask_for_pages())
        begun, worked = time.perf_counter(), time.process_time()
        watched = await asyncio.gather(*(self.run(number, form, viewers) for number, form in enumerate(forms)))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking  # raises what went wrong
        return {
            "runs": [run for run, _ in watched],
            "streams": [[answer.read().read().decode() for answer in answers] for _, answers in watched],
            "pages": self.pages,
            "refused": self.refused,
            "seconds": seconds,
            "cpu": cpu,
        }

    async def run(self, number: int, form: dict, viewers: int) -> tuple[str, list[Answer]]:
        await asyncio.sleep(number * self.apart)
        answer = (await self.ask("/runs", form)).read()
        if answer.status != 303:
            raise ValueError(f"{answer.status}: {answer.read()[:400]}")
        run = answer.headers["Location"]
        self.runs.append(run)
        return run, await asyncio.gather(*(self.view(place, run) for place in range(viewers)))

    async def view(self, place: int, run: str) -> Answer:
        """What a viewer sees, who comes back when there is no room."""
        await asyncio.sleep(place * self.apart)
        while pause := BUSY.search(b"".join((answer := await self.ask(run + "/events")).pieces[-4:])):
            self.refused += 1
            await asyncio.sleep(int(pause[1]) / 1000)
        return answer

    async def ask_for_pages(self) -> None:
        number = 0
        while True:
            places = {"/healthz": "/healthz", "/": "/"}
            if self.runs:
                places["/r/ID"] = self.runs[number % len(self.runs)]
            for name, path in places.items():
                begun = time.perf_counter()
                answer = await self.ask(path)
                if answer.read().status != 200:
                    raise ValueError(f"{path}: {answer.pieces[0][:400]}")
                self.pages.setdefault(name, []).append(answer.last - begun)
                await asyncio.sleep(PAUSE)
            number += 1

    async def ask(self, path: str, form: dict | None = None) -> Answer:
        request = request_of(path, form)
        loop = asyncio.get_running_loop()
        _, answer = await loop.create_connection(lambda: Answer(request), "127.0.0.1", self.port)
        await answer.over
        return answer


if __name__ == "__main__":
    wish = json.load(sys.stdin)
    json.dump(asyncio.run(Crowd(wish["port"], wish["apart"]).watch(wish["forms"], wish["viewers"])), sys.stdout)
