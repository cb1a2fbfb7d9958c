"""What serving costs: 32 clients of the API, and 32 viewers of the page, beside the engine alone: `python -m bench.api`.

The 124M shape (seeded random weights, int8), a real gunicorn, everybody's clients on the same cores. The engine alone does
the same texts with the same seeds in a process without a server. All take turns in rounds; printed are medians, of whole
bursts and of the stretch in which everybody's text is being written, and the share of the engine's speed that is kept.
The bars: 0.9 without log-probabilities, 0.8 with ten, 0.9 of the page. Then how soon a client's leaving frees its row.
"""

import argparse
import json
import os
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.askers import Askers
from bench.measure import Child, interleave, median
from bench.serve import Alone, Server
from bench.shapes import SAMPLING, SHAPES, make, texts
from bench.viewers import Viewers

CLIENTS, NEW, WARM_UP = 32, 300, 8
BARS = {"api": 0.9, "api, ten logprobs": 0.8, "page": 0.9}
LEAVINGS = 10
LEAVES = {"streamed": {"stream": True}, "not streamed": {}, "one of 33, in line": {"n": 32}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.api", description="What serving costs.")
    parser.add_argument("--model", choices=("storyteller", *SHAPES), default="124M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(BARS), help="default: all")
    args = parser.parse_args()
    precision, threads = "int8" if args.model in SHAPES else "auto", max(1, (os.cpu_count() or 2) - 1)
    with tempfile.TemporaryDirectory(prefix="rubric-bench-") as name:
        work = Path(name)
        make(work, args.model)
        with Server(work, args.model, precision, threads) as server:
            alone = Child(Alone, work, args.model, precision, threads)
            results = measured(server.port, alone, args)
            alone.close()
            table(results)
            print(
                f"\nMilliseconds from a client's leaving to a free row, the median and the worst of {LEAVINGS}; bar: 500"
            )
            for name, more in LEAVES.items():
                seconds = [leaving(server.port, args.model, more) for _ in range(LEAVINGS)]
                print(f"{name:20} {median(seconds) * 1000:5.0f} {max(seconds) * 1000:5.0f}")


def measured(port: int, alone: Child, args: argparse.Namespace) -> dict[str, list[dict]]:
    """The bursts of everybody, by rounds."""
    does = {
        "api": Askers(port, args.model).ask,
        "api, ten logprobs": Askers(port, args.model, logprobs=10).ask,
        "page": Viewers(port, args.model).watch,
    }
    does = {name: do for name, do in does.items() if name in (args.only or BARS)}
    does["alone"] = partial(alone.call, "write")

    def burst(name: str, number: int) -> dict:
        length = NEW if number else WARM_UP
        names = {"max_tokens": length} if name.startswith("api") else {"max_new_tokens": length}
        return does[name](texts(CLIENTS, f"{number}"), [SAMPLING | names | {"seed": seed} for seed in range(CLIENTS)])

    return interleave(args.rounds, {name: partial(burst, name) for name in does})


def table(results: dict[str, list[dict]]) -> None:
    """Print tokens a second, and the shares of the engine's, each of the same round."""
    print(f"\n{'':20} {'tokens/s':>9} {'steady':>9} {'of alone':>9} {'steady':>9} {'bar':>5}")
    for name, rounds in results.items():
        columns = [column(rounds, results["alone"], key) for key in ("tokens_per_s", "steady_per_s")]
        (speed, kept), (still, still_kept) = columns
        print(f"{name:20} {speed:9.0f} {still:9.0f} {kept:9.2f} {still_kept:9.2f} {BARS.get(name, ''):>5}")


def column(rounds: list[dict], alone: list[dict], key: str) -> tuple[float, float]:
    """A speed, and the share of the engine's; of rounds in which all were writing at some time, where that is asked."""
    pairs = [(one[key], other[key]) for one, other in zip(rounds, alone, strict=True) if one[key] and other[key]]
    if not pairs:
        return float("nan"), float("nan")
    return median(one for one, _ in pairs), median(one / other for one, other in pairs)


def leaving(port: int, model: str, more: dict) -> float:
    """Seconds from a client's leaving to an engine with nothing to do, or where all rows are taken by another one, to an
    empty line."""
    with ExitStack() as others:
        if "n" in more:
            others.enter_context(asking(port, model, more))
            wait_until(port, "Nobody is writing", False)
        waits, word = (True, " in line") if "n" in more else (False, "Nobody is writing")
        with asking(port, model, {} if "n" in more else more):
            wait_until(port, word, waits)
            begun = time.perf_counter()
        wait_until(port, word, not waits)
        seconds = time.perf_counter() - begun
    wait_until(port, "Nobody is writing", True)
    return seconds


@contextmanager
def asking(port: int, model: str, more: dict) -> Iterator[None]:
    """A client who asks for a long text, and leaves."""
    body = json.dumps({"model": model, "prompt": "the", "max_tokens": 4000, "min_tokens": 4000} | more).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head + body)
        yield


def wait_until(port: int, word: str, is_said: bool) -> None:
    """Wait until the server's sentence on how busy it is has a word, or has it not."""
    while (word in urllib.request.urlopen(f"http://127.0.0.1:{port}/busy").read().decode()) is not is_said:
        time.sleep(0.005)


if __name__ == "__main__":
    main()
