"""Does a small model learn more from a larger one than from the text alone? `python -m bench.distill TEXT [--validation TEXT]`

A teacher of about four times the student's size learns a text; then students of three seeds learn the same text for the same
number of steps, alone and from the teacher. Prints each held-out loss in nats a token, and mean and spread of both kinds. The
students share nothing but the text, the tokenizer and, with --teacher, its probabilities. Some minutes on one core for 1 MB.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from pathlib import Path

import torch

from finetune.__main__ import main

STUDENT = {"layers": 4, "width": 96, "heads": 3}
TEACHER = {"layers": 7, "width": 160, "heads": 5}


def trained(text: list[str], out: Path, **options) -> float:
    """The held-out loss of a model trained from nothing."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with Path(os.devnull).open("w") as hole, contextlib.redirect_stdout(hole), contextlib.redirect_stderr(hole):
        assert main([*text, "--from-scratch", "--out", str(out), "--cache", str(out.parent / "cache"), *words]) == 0
    return json.loads((out / "run.json").read_text())["evaluations"][-1]["loss"]


def measure(args: argparse.Namespace) -> None:
    common = {
        "block_size": args.block_size, "batch_size": 8, "steps": args.steps, "optimizer": "muon", "learning_rate": 6e-3,
        "schedule": "linear", "dropout": 0, "sample_every": 0, "evaluate_every": 0, "save_every": 0,
    }  # fmt: skip
    if args.validation:
        common["validation"] = args.validation
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        teacher = root / "teacher"
        loss = trained(
            args.text, teacher, **common | TEACHER | {"vocab": args.vocab, "steps": args.teacher_steps, "seed": 1}
        )
        print(f"teacher {size(teacher):,} weights, {args.teacher_steps} steps: {loss:.4f}", flush=True)
        found: dict[str, list[float]] = {"alone": [], "taught": []}
        for seed in range(1, args.seeds + 1):
            mine = common | STUDENT | {"seed": seed, "tokenizer": teacher}
            found["alone"].append(trained(args.text, root / f"alone{seed}", **mine))
            more = {"teacher": teacher, "distill_weight": args.distill_weight}
            found["taught"].append(trained(args.text, root / f"taught{seed}", **mine | more))
            print(f"seed {seed}: alone {found['alone'][-1]:.4f}, taught {found['taught'][-1]:.4f}", flush=True)
        told = ", ".join(
            f"{name} {statistics.mean(losses):.4f} +- {statistics.stdev(losses):.4f}" for name, losses in found.items()
        )
        gain = statistics.mean(found["alone"]) - statistics.mean(found["taught"])
        print(f"student {size(root / 'alone1'):,} weights, {args.steps} steps: {told}; gain {gain:.4f} nats a token")


def size(folder: Path) -> int:
    from safetensors.torch import load_file

    return sum(value.numel() for value in load_file(folder / "model.safetensors").values())


if __name__ == "__main__":
    p = argparse.ArgumentParser(prog="python -m bench.distill")
    p.add_argument("text", nargs="+")
    p.add_argument("--validation")
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--block-size", type=int, default=256)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--teacher-steps", type=int, default=600)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--distill-weight", type=float, default=0.5)
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)
