"""What our front costs before a vLLM: 32 streams with log-probabilities, asked for bare, and through gunicorn with 32
viewers. The two take turns.

    python -m bench.front http://127.0.0.1:8400 FOLDER_OF_MODELS MODEL --out bench/results/front.json

The bare client reads bytes and counts ids, and no more. The front reads each prompt too (its tokens' probabilities are told),
keeps records, stores them, and sends its viewers HTML. On one machine all of them share its processors.
"""

import argparse
import asyncio
import json
import re
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

STREAMS = 32
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

    def watch(self, prompts: list[str], wishes: list[dict]) -> dict:
        """Everybody starts at once."""
        return asyncio.run(self._watch(prompts, wishes))

    async def _watch(self, prompts: list[str], wishes: list[dict]) -> dict:
        begun = time.perf_counter()
        seen = await asyncio.gather(*map(self._stream, prompts, wishes))
        whole = time.perf_counter() - begun
        return {"tokens_per_s": sum(one[-1][1] for one in seen) / whole, "steady_per_s": steady(seen)}

    async def _stream(self, text: str, wish: dict) -> Seen:
        params = {"temperature": wish["temperature"], "top_k": wish["top_k"], "seed": wish["seed"], "logprobs": 10}
        params |= {"max_tokens": wish["max_new_tokens"], "ignore_eos": True, "detokenize": False}
        body = json.dumps(
            {
                "model": self._model,
                "token_ids": self._folder.encode_prompt(text),
                "stream": True,
                "sampling_params": params,
            }
        )
        reader, writer = await asyncio.open_connection(self._place.hostname, self._place.port, limit=2**22)
        head = ("POST /inference/v1/generate HTTP/1.1", "Host: engine", "Content-Type: application/json")
        head += ("Connection: close", f"Content-Length: {len(body)}", "", body)
        writer.write("\r\n".join(head).encode())
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


def measure(address: str, models: Path, model: str, rounds: int, new: int) -> dict:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory() as work, Front(models, model, address, Path(work) / "instance") as server:
        front, bare = Viewers(server.port, model), Bare(address, models, model)

        def burst(do, number):
            wish = SAMPLING | {"max_new_tokens": new if number else 8}
            return do(texts(STREAMS, f"front {number}"), [wish | {"seed": seed} for seed in range(STREAMS)])

        results = interleave(rounds, {"bare": partial(burst, bare.watch), "front": partial(burst, front.watch)})
    if len(results) < 2:
        raise Failed("there is nothing to compare")
    row = {"model": model, "streams": STREAMS, "tokens": new, "rounds": rounds}
    for key in ("tokens_per_s", "steady_per_s"):
        if all(one[key] for many in results.values() for one in many):
            row |= {f"{name}_{key}": round(median(one[key] for one in many), 1) for name, many in results.items()}
            row[f"{key}_ratio"] = round(row[f"front_{key}"] / row[f"bare_{key}"], 3)
    return row | {"viewers_cores": round(median(one["watching"] for one in results["front"]), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("models", type=Path)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=96)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    row = measure(asked.address, asked.models.resolve(), asked.model, asked.rounds, asked.new)
    print(json.dumps(row, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
