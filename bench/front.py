"""What our front costs before a vLLM: 32 streams with log-probabilities, asked for bare, asked for bare by somebody who has
the prompts read as well, and through gunicorn with 32 viewers. The three take turns.

    python -m bench.front http://127.0.0.1:8400 FOLDER_OF_MODELS MODEL --out bench/results/front.json

The bare client reads bytes and counts ids, and no more. The front has each prompt read too (its tokens' probabilities are
told; vLLM does that in a call of its own, so what `read` costs more than `bare` is vLLM's work, and the rest is ours), keeps
records, stores them, and sends its viewers HTML. On one machine all of them share its processors; with `--pid`, vLLM's
process, it is told how much of them each used for a token, which says more than the pace where others are at work as well.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from bench.measure import Failed, interleave, median
from bench.serve import Server
from bench.shapes import SAMPLING, texts
from bench.viewers import Seen, Viewers, steady
from generate import find_model
from generate.remote.asking import Reading, reading_body

STREAMS = 32
TICK = os.sysconf("SC_CLK_TCK")
IDS = re.compile(rb'"token_ids":\[([0-9,]+)\]')


class Front(Server):
    """gunicorn whose engine is behind an address."""

    def __init__(self, models: Path, model: str, engine: str, instance: Path):
        super().__init__(models, model, "auto", 0)
        self.instance = instance
        self.environment |= {"RUBRIC_ENGINE": engine, "RUBRIC_INSTANCE": str(instance)}


class Bare:
    """The same requests without a front: sockets, and as little done with what they bring as can be."""

    def __init__(self, address: str, models: Path, model: str):
        self._place, self._model, self._folder = urlsplit(address), model, find_model(models, model)

    def watch(self, prompts: list[str], wishes: list[dict], reads: bool = False) -> dict:
        """Everybody starts at once; each has their prompt read before, if it `reads`."""
        return asyncio.run(self._watch(prompts, wishes, reads))

    async def _watch(self, prompts: list[str], wishes: list[dict], reads: bool) -> dict:
        begun = time.perf_counter()
        seen = await asyncio.gather(*(self._stream(*each, reads) for each in zip(prompts, wishes, strict=True)))
        whole = time.perf_counter() - begun
        return {"tokens_per_s": sum(one[-1][1] for one in seen) / whole, "steady_per_s": steady(seen)}

    async def _stream(self, text: str, wish: dict, reads: bool) -> Seen:
        ids = self._folder.encode_prompt(text)
        if reads:
            reader, writer = await self._post("/v1/completions", reading_body(Reading(ids, 1, 0), self._model, 1))
            await reader.read()
            writer.close()
        params = {"temperature": wish["temperature"], "top_k": wish["top_k"], "seed": wish["seed"], "logprobs": 10}
        params |= {"max_tokens": wish["max_new_tokens"], "ignore_eos": True, "detokenize": False}
        body = {"model": self._model, "token_ids": ids, "stream": True, "sampling_params": params}
        reader, writer = await self._post("/inference/v1/generate", body)
        arrivals, tokens = [], 0
        while tokens < wish["max_new_tokens"]:
            line = await reader.readline()
            if not line:
                raise Failed(f"a stream ended after {tokens} of {wish['max_new_tokens']} tokens")
            if found := IDS.search(line):
                tokens += found[1].count(b",") + 1
                arrivals.append((time.perf_counter(), tokens))
        writer.close()
        return arrivals

    async def _post(self, path: str, body: dict):
        data = json.dumps(body)
        reader, writer = await asyncio.open_connection(self._place.hostname, self._place.port, limit=2**22)
        head = (f"POST {path} HTTP/1.1", "Host: engine", "Content-Type: application/json")
        head += ("Connection: close", f"Content-Length: {len(data)}", "", data)
        writer.write("\r\n".join(head).encode())
        return reader, writer


def worked(pid: int | None) -> float:
    """CPU seconds of a process and all that it has started, as far as they live; 0 of none."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    begun = [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]
    return (int(fields[11]) + int(fields[12])) / TICK + sum(map(worked, begun))


def measure(address: str, models: Path, model: str, rounds: int, new: int, pid: int | None) -> dict:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory() as work, Front(models, model, address, Path(work) / "instance") as server:
        front, bare = Viewers(server.port, model, health_every=None), Bare(address, models, model)
        ways = {"bare": bare.watch, "read": partial(bare.watch, reads=True), "front": front.watch}
        once, sides = secrets.token_hex(4), {"engine": pid, "web": server.process.pid}

        def burst(name, number):
            wish = SAMPLING | {"max_new_tokens": new if number else 8}
            wishes = [wish | {"seed": seed} for seed in range(STREAMS)]
            before = {side: worked(one) for side, one in sides.items()}
            found = ways[name](texts(STREAMS, f"{name} {number} {once}"), wishes)  # none that vLLM remembers
            tokens = STREAMS * wish["max_new_tokens"]
            return found | {f"{side}_ms": (worked(one) - before[side]) / tokens * 1000 for side, one in sides.items()}

        results = interleave(rounds, {name: partial(burst, name) for name in ways})
    if len(results) < len(ways):
        raise Failed("there is nothing to compare")
    row = {"model": model, "streams": STREAMS, "tokens": new, "rounds": rounds}
    for key in ("tokens_per_s", "steady_per_s"):
        if all(one[key] for many in results.values() for one in many):
            row |= {f"{name}_{key}": round(median(one[key] for one in many), 1) for name, many in results.items()}
            for name in ("bare", "read"):
                pairs = zip(results["front"], results[name], strict=True)
                row[f"{key}_ratio_to_{name}"] = round(median(one[key] / other[key] for one, other in pairs), 3)
    for name, side in (("bare", "engine"), ("read", "engine"), ("front", "engine"), ("front", "web")):
        if sides[side] is not None:
            row[f"{name}_{side}_cpu_ms_per_token"] = round(median(one[f"{side}_ms"] for one in results[name]), 2)
    return row | {"viewers_cores": round(median(one["watching"] for one in results["front"]), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("models", type=Path)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=96)
    parser.add_argument("--pid", type=int, help="vLLM's process, of which it is told how much it worked")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    row = measure(asked.address, asked.models.resolve(), asked.model, asked.rounds, asked.new, asked.pid)
    print(json.dumps(row, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
