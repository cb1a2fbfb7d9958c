"""llama.cpp as a contender, where the person has installed it: `llama-server` on PATH.

The model is our own GGUF of it, in q8_0. The server listens on 127.0.0.1 with as many threads as
the others and a slot for every row; the timings hold its HTTP, since that is how it serves. Its OpenMP waits passively like everybody's. A step
is the median gap between a row's tokens while all rows are being written. Its memory is not measured: it is the memory
of yet another process.
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import generate  # (first: it tells OpenMP to wait passively)
from bench.measure import Failed, Timing, median
from bench.shapes import SAMPLING
from convert.to_gguf import to_gguf

SLOTS, ROOM = 32, 640  # rows, and tokens for each


class Llama:
    """A llama-server of its own for each model."""

    def __init__(self, threads: int):
        if not shutil.which("llama-server"):
            raise Failed("llama-server is not installed")
        self.server, self.threads = None, threads

    def load(self, path: Path) -> None:
        self.close()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = ["llama-server", "--model", path, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--threads", str(self.threads), "--threads-batch", str(self.threads)]
        command += ["--parallel", str(SLOTS), "--no-context-shift"]
        command += ["--ctx-size", str(SLOTS * ROOM), "--batch-size", str(SLOTS * ROOM), "--threads-http", str(SLOTS)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = subprocess.Popen(list(map(str, command)), **quiet)
        deadline = time.monotonic() + 120
        while not self.ready():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Failed("llama-server did not start")
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return urllib.request.urlopen(self.url + "/health", timeout=2).status == 200
        except OSError:
            return False

    def close(self) -> None:
        if self.server:
            self.server.terminate()
            self.server.wait()
            self.server = None

    def turn(self, prompts: list[list[int]], new: int) -> Timing:
        with ThreadPoolExecutor(len(prompts)) as pool:
            begun = time.perf_counter()
            stamps = list(pool.map(self.write, prompts, [new] * len(prompts)))
        all_running, one_done = max(row[0] for row in stamps), min(row[-1] for row in stamps)
        gaps = [b - a for row in stamps for a, b in pairwise(row) if a >= all_running and b <= one_done]
        first, last = sum(row[0] for row in stamps) / len(stamps), max(row[-1] for row in stamps)
        return Timing(first - begun, last - begun, median(gaps) if gaps else 0)

    def write(self, prompt: list[int], new: int) -> list[float]:
        """When the tokens of one completion arrived; the pieces of a character that is cut in half arrive together."""
        wish = SAMPLING | {
            "samplers": ["top_k", "temperature"],
            "prompt": prompt,
            "n_predict": new,
            "ignore_eos": True,
            "cache_prompt": False,
            "stream": True,
        }
        data = json.dumps(wish).encode()
        request = urllib.request.Request(self.url + "/completion", data, {"Content-Type": "application/json"})
        stamps, written = [], 0
        with urllib.request.urlopen(request, timeout=600) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    stamps.append(time.perf_counter())
                    written = event.get("tokens_predicted", 0)
        if written != new:
            raise Failed(f"{written} tokens instead of {new}")
        return stamps[:-1]  # the last event only says how it ended


def convert(source: Path, target: Path) -> None:
    """Write a model's folder as one GGUF file."""
    if not shutil.which("llama-server"):
        raise Failed("llama-server is not installed")
    to_gguf(generate.check_folder(source), target, "q8_0")
