"""Does the training lose time on anything but arithmetic? `python -m bench.finetune [--shape 124M] [--precision bfloat16] [--compile]`

A is `finetune` with everything it does (Trainer, log, event files, curve), no evaluation and no sample. B is a plain PyTorch
loop over the same windows: `transformers`' model as it comes, autocast, clipping, AdamW. The ideal is the matrix products of a
step alone, on tensors that are already there. Rounds go A B ideal; the ratios are of medians, in tokens a second. The bound is
the processor's matrix unit; what lies between it and B is attention's softmax, norms, the loss and the optimizer.
"""

import argparse
import contextlib
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from bench.shapes import NAMES, SHAPES, STORYTELLER, WORDS, random_model
from finetune.__main__ import main
from finetune.split import whole
from finetune.trainer import Batches
from finetune.windows import Packed, collate
from generate import check_folder

BLOCK, BATCH = 512, 8


def ours(model: Path, text: Path, root: Path, steps: int, precision: str, device: str, compiled: bool) -> float:
    """Tokens a second: the median of what the log tells, whose first entry is left out."""
    shutil.rmtree(root / "made", ignore_errors=True)
    options = {
        "--model": model, "--out": root / "made", "--cache": root / "cache", "--block-size": BLOCK, "--batch-size": BATCH,
        "--steps": steps, "--split": "100/0", "--sample-every": 0, "--save-every": 0, "--log-every": 1, "--dropout": 0,
        "--precision": precision, "--device": device,
    }  # fmt: skip
    more = ["--compile"] * compiled
    with contextlib.redirect_stdout(None):
        assert main([str(text), *(str(word) for pair in options.items() for word in pair), *more]) == 0
    history = json.loads((root / "made" / "run.json").read_text())["history"]
    return statistics.median(entry["tokens_per_second"] for entry in history[1:])


def plainly(model: Path, windows, steps: int, precision: str, device: str, compiled: bool) -> float:
    gpt2 = GPT2LMHeadModel.from_pretrained(
        model, dtype=torch.float32, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False
    )
    gpt2.to(device).train()
    step = torch.compile(gpt2) if compiled else gpt2
    optimizer = torch.optim.AdamW(gpt2.parameters(), 5e-5, weight_decay=0.0, fused=True)
    speeds = []
    for numbers, _ in zip(Batches(windows, BATCH, 1, 0, 1), range(steps), strict=False):
        begun = time.perf_counter()
        batch = {name: value.to(device) for name, value in collate([windows[n] for n in numbers], 0).items()}
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = step(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt2.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # a log of every step, as ours
        speeds.append(int((batch["labels"] != -100).sum()) / (time.perf_counter() - begun))
    return statistics.median(speeds[1:])


def products(config, steps: int, precision: str, device: str) -> float:
    """A step's matrix products: each once forward and twice backward, with random numbers."""
    width, tokens, head = config.n_embd, BATCH * BLOCK, config.n_embd // config.n_head
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    make = lambda *shape: torch.randn(shape, dtype=dtype, device=device)  # noqa: E731
    layer = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    pairs = [
        (make(tokens, a), make(a, b), make(tokens, b)) for a, b in [*layer * config.n_layer, (width, config.vocab_size)]
    ]
    rows = BATCH * config.n_head
    query, scores = make(rows, BLOCK, head), make(rows, BLOCK, BLOCK)
    speeds = []
    for _ in range(steps):
        begun = time.perf_counter()
        for x, w, y in pairs:
            x @ w, y @ w.T, x.T @ y
        for _ in range(config.n_layer):
            for _ in range(3):  # forward, and a gradient for each factor
                query @ query.transpose(1, 2), scores @ query
        if device == "cuda":
            torch.cuda.synchronize()
        speeds.append(tokens / (time.perf_counter() - begun))
    return statistics.median(speeds)


def measure(shape: str, precision: str, rounds: int, steps: int, device: str, compiled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = root / shape
        shutil.copytree(STORYTELLER, model) if shape not in SHAPES else random_model(model, shape)
        text = root / "text.txt"
        text.write_text(" ".join(random.Random(1).choices(WORDS.split(), k=BLOCK * BATCH * (steps + 1))))
        windows = windows_of(model, text)
        config = GPT2LMHeadModel.config_class.from_pretrained(model)
        found: dict[str, list[float]] = {"finetune": [], "plain loop": [], "products alone": []}
        for _ in range(rounds):
            found["finetune"].append(ours(model, text, root, steps, precision, device, compiled))
            found["plain loop"].append(plainly(model, windows, steps, precision, device, compiled))
            found["products alone"].append(products(config, steps, precision, device))
    speed = {name: statistics.median(values) for name, values in found.items()}
    told = ", ".join(f"{name} {value:,.0f}" for name, value in speed.items())
    print(f"{shape} {precision}{', compiled' * compiled}, tokens/s: {told}")
    print(f"  finetune / plain loop {speed['finetune'] / speed['plain loop']:.3f} (0.95 is asked for), "
          f"/ products alone {speed['finetune'] / speed['products alone']:.2f}")  # fmt: skip


def windows_of(model: Path, text: Path) -> Packed:
    """The windows that `finetune` makes of the same text."""
    folder = check_folder(model)
    ids = np.array([*folder.tokenizer.encode(text.read_text()), folder.end_id])
    return Packed(whole(ids, np.array([len(ids)])), BLOCK, folder.end_id)


if __name__ == "__main__":
    p = argparse.ArgumentParser(prog="python -m bench.finetune")
    p.add_argument("--shape", choices=NAMES, default="storyteller")
    p.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--compile", action="store_true", help="both A and B with a compiled step")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    measure(args.shape, args.precision, args.rounds, args.steps, args.device, args.compile)
