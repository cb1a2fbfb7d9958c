"""End to end: a real gunicorn with viewers over SSE, and the same engine doing the same in a process without a server.

Measured per number of viewers, from the first POST to the last token: tokens/s of all together; per viewer the time to
the first token and the gaps between arrivals of tokens; /healthz meanwhile. The bound is the engine alone: the same
texts, seeds, lengths, threads and rows. Two ratios say what the web costs: of whole bursts, which counts the time that
forms and pages take, and of the steady stretch in which everybody's text is being written (where there is one). Server
and engine take turns. On two cores the viewers themselves take some of what the server has.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from bench.measure import Child, Failed, interleave, median, percentile, spread
from bench.ours import MAX_ROWS
from bench.shapes import ROOT, SAMPLING, texts
from bench.viewers import Viewers, steady
from generate import Request, find_model, parse_sampling

MAX_WAITING = 256
POLL = 0.02  # seconds between two looks at how far the engine alone has come
WARM_UP = 8  # tokens of the round that does not count


def serve(
    work: Path, model: str, viewers: list[int], rounds: int, new: int, precision: str, threads: int
) -> list[dict]:
    """A row for each number of viewers of a model in the folder `work`."""
    rows = []
    with Server(work, model, precision, threads) as server:
        watching, alone = Viewers(server.port, model), Child(Alone, work, model, precision, threads)
        for count in viewers:

            def burst(do, number, count=count):
                wish = SAMPLING | {"max_new_tokens": new if number else WARM_UP}
                return do(texts(count, f"{count} {number}"), [wish | {"seed": seed} for seed in range(count)])

            turns = {"server": partial(burst, watching.watch), "alone": partial(burst, partial(alone.call, "write"))}
            results = interleave(rounds, turns)
            if results.keys() != turns.keys():
                raise Failed("there is nothing to compare")
            rows.append({"model": model, "viewers": count, "threads": threads} | summary(**results))
        alone.close()
    return rows


def summary(server: list[dict], alone: list[dict]) -> dict:
    """Medians over the rounds; percentiles over all that any round saw. Milliseconds."""
    row = {"precision": alone[0]["precision"], "rounds": len(server)}
    for key, ratio in (("tokens_per_s", "ratio"), ("steady_per_s", "steady_ratio")):
        if all(burst[key] for burst in (*server, *alone)):
            row[key], row[f"alone_{key}"] = (median(burst[key] for burst in bursts) for bursts in (server, alone))
            row |= {
                f"{name}_spread": spread(b[key] for b in bursts)
                for name, bursts in ((key, server), (f"alone_{key}", alone))
            }
            row[ratio] = row[key] / row[f"alone_{key}"]
    seen = {key: [t * 1000 for burst in server for t in burst[key]] for key in ("first", "gaps", "health")}
    return row | {
        "first_p50_ms": percentile(seen["first"], 0.5),
        "first_p95_ms": percentile(seen["first"], 0.95),
        "gap_p50_ms": percentile(seen["gaps"], 0.5),
        "gap_p99_ms": percentile(seen["gaps"], 0.99),
        "healthz_p99_ms": percentile(seen["health"], 0.99),
        "viewers_cores": median(burst["watching"] for burst in server),
    }


class Server:
    """gunicorn as `make run` starts it, on this machine alone, with a database of its own; used with `with`."""

    def __init__(self, models: Path, model: str, precision: str, threads: int):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.instance = models / ".instance" / model
        self.environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "RUBRIC_INSTANCE": str(self.instance),
            "RUBRIC_MODELS": str(models),
            "RUBRIC_MODEL": model,
            "RUBRIC_PRECISION": precision,
            "RUBRIC_THREADS": str(threads),
            "RUBRIC_MAX_ROWS": str(MAX_ROWS),
            "RUBRIC_MAX_WAITING": str(MAX_WAITING),
            "RUBRIC_RATE_LIMIT": "1000000 per minute",
        }

    def __enter__(self) -> "Server":
        self.instance.mkdir(parents=True, exist_ok=True)  # of this model another bench had a server already
        log = self.instance / "server.log"
        upgrade = [sys.executable, "-m", "flask", "--app", "webapp", "db", "upgrade"]
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
        with log.open("wb") as out:
            place = {"cwd": ROOT, "env": self.environment, "stdout": out, "stderr": out}
            subprocess.run(upgrade, check=True, **place)
            self.process = subprocess.Popen(gunicorn, **place)
        deadline = time.monotonic() + 120
        while (trouble := self.trouble()) is not None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise Failed(f"the server did not start: {trouble}\n{log.read_text()[-500:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def trouble(self) -> str | None:
        """Why it cannot write yet, in its own words where it has any; None when it can."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2).close()
        except urllib.error.HTTPError as refusal:
            return refusal.read().decode()
        except OSError as error:
            return str(error)
        return None


class Alone:
    """The engine on its own thread in a process without a server."""

    def __init__(self, models: Path, model: str, precision: str, threads: int):
        from generate import LocalEngine

        options = {"device": "cpu", "precision": precision, "threads": threads, "max_rows": MAX_ROWS}
        self.engine = LocalEngine(models, **options, max_waiting=MAX_WAITING).start(model)
        self.folder = find_model(models, model)
        deadline = time.monotonic() + 120
        while problem := self.engine.ready():
            if time.monotonic() > deadline:
                raise RuntimeError(problem)
            time.sleep(0.05)

    def write(self, prompts: list[str], wishes: list[dict]) -> dict:
        """The same requests at once, and how fast they were done."""
        begun, runs = time.perf_counter(), []
        for text, wish in zip(prompts, wishes, strict=True):
            request = Request(self.folder, parse_sampling(wish))
            runs.append(self.engine.submit(request, request.new_log(self.folder.encode_prompt(text))))
        seen = [[] for _ in runs]
        while not all(run.done for run in runs):
            time.sleep(POLL)
            for arrivals, run in zip(seen, runs, strict=True):
                if (tokens := len(run.samples[0])) and (not arrivals or arrivals[-1][1] < tokens):
                    arrivals.append((time.perf_counter(), tokens))
        whole = time.perf_counter() - begun
        tokens = sum(len(run.samples[0]) for run in runs)
        return {"tokens_per_s": tokens / whole, "steady_per_s": steady(seen), "precision": runs[0].precision}

    def close(self) -> None:
        self.engine.close()
