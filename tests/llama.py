"""llama.cpp as a second opinion, where a person has it: `llama-server` on PATH, or the package llama_cpp."""

import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from waiting import until

SECONDS = 120  # to load a model, and for an answer


class Server:
    """A llama-server of one model."""

    def __init__(self, address: str, size: int):
        self._address, self._size = address, size

    def ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        wish = {"content": text, "add_special": False, "parse_special": False}
        return self._ask("/tokenize", wish)["tokens"]

    def log_probabilities(self, ids: list[int]) -> np.ndarray:
        """Of each token of the vocabulary after some tokens; [V]."""
        wish = {"prompt": ids, "n_predict": 1, "n_probs": self._size, "temperature": 1, "cache_prompt": False}
        told = self._ask("/completion", wish)["completion_probabilities"][0]["top_logprobs"]
        found = np.full(self._size, -np.inf)
        found[[one["id"] for one in told]] = [one["logprob"] for one in told]
        return found

    def _ask(self, path: str, wish: dict) -> dict:
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, json.dumps(wish).encode(), kind)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)


class Package:
    """llama_cpp with one model in memory."""

    def __init__(self, file: Path, room: int):
        from llama_cpp import Llama

        self._model = Llama(str(file), n_ctx=room, n_threads=1, logits_all=True, verbose=False)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self._model.tokenize(text.encode(), add_bos=False, special=False)

    def log_probabilities(self, ids: list[int]) -> np.ndarray:
        """Of each token of the vocabulary after some tokens; [V]."""
        self._model.reset()
        self._model.eval(ids)
        logits = np.array(self._model.scores[len(ids) - 1], np.float64)
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


@contextlib.contextmanager
def llama_of(file: Path, size: int, room: int) -> Iterator[Server | Package | None]:
    """llama.cpp with a GGUF of `size` tokens and a window of `room`; None where it is not installed."""
    if not shutil.which("llama-server"):
        yield Package(file, room) if importlib.util.find_spec("llama_cpp") else None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["llama-server", "--model", file, "--host", "127.0.0.1", "--port", port, "--ctx-size", room]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([str(word) for word in [*command, "--threads", 1, "--parallel", 1]], **quiet)
    try:
        wait_for(process, f"http://127.0.0.1:{port}")
        yield Server(f"http://127.0.0.1:{port}", size)
    finally:
        process.terminate()
        process.wait(SECONDS)


def wait_for(process: subprocess.Popen, address: str) -> None:
    """Wait until a server has loaded its model."""

    def is_there() -> bool:
        assert process.poll() is None, "llama-server did not start"
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{address}/health", timeout=2).status == 200
        return False

    until(is_there, SECONDS, "a loaded model at llama-server")
