"""llama.cpp as a contender, where the person has installed it: `llama-server` on PATH, and the `gguf` package.

The model is written as GGUF with every matrix in q8_0. The server listens on 127.0.0.1 with as many threads as
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

import generate  # noqa: F401  (first: it tells OpenMP to wait passively)
from bench.measure import Failed, Timing, median
from bench.shapes import SAMPLING

SLOTS, ROOM = 32, 640  # rows, and tokens for each
NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


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
    import gguf
    import torch
    from safetensors.torch import load_file

    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
    tokenizer = json.loads((source / "tokenizer.json").read_text())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].get))
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokenizer["vocab"]))
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]])
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in load_file(source / "model.safetensors").items():
        new, value = renamed(name.removeprefix("transformer.")), tensor.to(torch.float32)
        if "c_" in name and value.dim() == 2:
            value = value.t().contiguous()  # [out, in] there
        if value.dim() == 2 and "wpe" not in name:
            writer.add_tensor(new, gguf.quants.quantize(value.numpy(), q8_0), raw_dtype=q8_0)
        elif name != "lm_head.weight":
            writer.add_tensor(new, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def renamed(name: str) -> str:
    """h.3.attn.c_attn.weight -> blk.3.attn_qkv.weight"""
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("h."):
        _, layer, part = stem.split(".", 2)
        return f"blk.{layer}.{NAMES[part]}.{kind}"
    return f"{NAMES[stem]}.{kind}"
