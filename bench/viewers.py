"""Viewers of a server: each starts a run and watches it over SSE. One thread (asyncio), to take little from the server.

What is seen of a run is a list of (when, tokens by then); an event may bring several tokens at once.
"""

import asyncio
import re
import time
from contextlib import suppress
from itertools import pairwise
from urllib.parse import urlencode

from bench.measure import Failed

HEALTH_EVERY = 0.05  # seconds between two questions to /healthz

Seen = list[tuple[float, int]]


class Viewers:
    """All the viewers of the server on `port`; `watch` is one burst of them. Meanwhile /healthz is asked every so many
    seconds (None: it is not, as each question takes the server some milliseconds)."""

    def __init__(self, port: int, model: str, health_every: float | None = HEALTH_EVERY):
        self.port, self.model, self._health_every = port, model, health_every

    def watch(self, prompts: list[str], wishes: list[dict]) -> dict:
        """Everybody starts at once, with a prompt and options of their own, and watches to the end."""
        return asyncio.run(self._watch(prompts, wishes))

    async def _watch(self, prompts: list[str], wishes: list[dict]) -> dict:
        health: list[float] = []
        asking = asyncio.create_task(self._ask_for_health(health))
        begun, worked = time.perf_counter(), time.process_time()
        seen = await asyncio.gather(*map(self._view, prompts, wishes))
        ended = time.perf_counter()
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking  # raises what went wrong
        return {
            "tokens_per_s": sum(arrivals[-1][1] for arrivals in seen) / (ended - begun),
            "steady_per_s": steady(seen),
            "watching": (time.process_time() - worked) / (ended - begun),
            "first": [arrivals[0][0] - begun for arrivals in seen],
            "gaps": [b - a for arrivals in seen for (a, _), (b, _) in pairwise(arrivals)],
            "health": health,
        }

    async def _view(self, text: str, wish: dict) -> Seen:
        form = urlencode({"prompt": text, "model": self.model, **wish})
        head = (await self._exchange("POST", "/runs", form, "Content-Type: application/x-www-form-urlencoded")).decode()
        run = re.search(r"^location: (.*)\r$", head, re.M | re.I)[1]
        cookie = re.search(r"^set-cookie: ([^;]*)", head, re.M | re.I)[1]
        reader, writer = await self._ask("GET", f"{run}/events", "", f"Cookie: {cookie}", "Accept: text/event-stream")
        arrivals, tokens = [], 0
        while tokens < wish["max_new_tokens"]:
            line = await reader.readline()
            if line.startswith(b"id: ") and int(line[4:]) > tokens:
                tokens = int(line[4:])
                arrivals.append((time.perf_counter(), tokens))
            elif not line or line.startswith(b"event: done"):
                raise Failed(f"a stream ended after {tokens} of {wish['max_new_tokens']} tokens")
        writer.close()
        return arrivals

    async def _ask_for_health(self, times: list[float]) -> None:
        while self._health_every is not None:
            begun = time.perf_counter()
            answer = await self._exchange("GET", "/healthz")
            if b" 200 " not in answer.split(b"\r\n")[0]:
                raise Failed(f"/healthz answered {answer[:80]!r}")
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(self._health_every)

    async def _exchange(self, *request: str) -> bytes:
        """The whole answer to a request."""
        reader, writer = await self._ask(*request)
        answer = await reader.read()
        writer.close()
        return answer

    async def _ask(self, method: str, path: str, body: str = "", *fields: str):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        fields = ("Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(body)}", *fields)
        writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", body]).encode())
        return reader, writer


def steady(seen: list[Seen]) -> float | None:
    """Tokens a second while all are being written: after the last one's first token, before the first one is done."""
    low, high = max(arrivals[0][0] for arrivals in seen), min(arrivals[-1][0] for arrivals in seen)
    if high <= low:
        return None

    def written(by: float) -> int:
        return sum(max(tokens for when, tokens in arrivals if when <= by) for arrivals in seen)

    return (written(high) - written(low)) / (high - low)
