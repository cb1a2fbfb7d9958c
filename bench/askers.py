"""Clients of the API of a server: each streams a completion. One thread (asyncio), to take little from the server.

What is seen of each is a list of (when, tokens by then), as `bench.viewers` has it.
"""

import asyncio
import json
import time

from bench.measure import Failed
from bench.viewers import Seen, steady


class Askers:
    """All the clients of the server on `port`; `ask` is one burst of them. `more` are fields of each request."""

    def __init__(self, port: int, model: str, **more: object):
        self.port, self.model, self.more = port, model, more

    def ask(self, prompts: list[str], wishes: list[dict]) -> dict:
        """Everybody starts at once, with a prompt and options of their own, and reads to the end."""
        return asyncio.run(self._ask_all(prompts, wishes))

    async def _ask_all(self, prompts: list[str], wishes: list[dict]) -> dict:
        begun, worked = time.perf_counter(), time.process_time()
        seen = await asyncio.gather(*map(self._ask, prompts, wishes))
        ended = time.perf_counter()
        return {
            "tokens_per_s": sum(arrivals[-1][1] for arrivals in seen) / (ended - begun),
            "steady_per_s": steady(seen),
            "clients_cores": (time.process_time() - worked) / (ended - begun),
        }

    async def _ask(self, prompt: str, wish: dict) -> Seen:
        body = {"model": self.model, "prompt": prompt, "stream": True, "return_token_ids": True, **self.more, **wish}
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        arrivals, tokens = [], 0
        while line := await reader.readline():
            if line.startswith(b"data: {") and (new := ids_in(line)):
                tokens += new
                arrivals.append((time.perf_counter(), tokens))
        writer.close()
        if tokens != wish["max_tokens"]:
            raise Failed(f"a stream ended after {tokens} of {wish['max_tokens']} tokens")
        return arrivals


def ids_in(chunk: bytes) -> int:
    """How many tokens a chunk has; what is read of it is little, as the clients share the server's cores."""
    _, found, rest = chunk.partition(b'"token_ids":[')
    ids = rest[: rest.index(b"]")] if found else b""
    return ids.count(b",") + 1 if ids else 0
