"""What a GPU makes of the engine, in one command and under three minutes: `bench/results/gpu.json`.

    python -m bench.gpu                             all of it
    python -m bench.gpu --device cpu --quick        how it goes, where there is no GPU

- **Speed**: the engine, with all its statistics, and Hugging Face's `generate` in turns, on seeded random weights of true
  shapes. Beside each step stands the share of the memory's bandwidth: the weights and the keys and values that a step must
  read, over its time and what copying a block reaches.
- **Tests**: those of the engine, on this device (`RUBRIC_TEST_DEVICE`): among them that steps by graphs and steps that begin
  early write what plain ones do, and that runs go on after the device has failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import torch

from bench.floor import products
from bench.measure import Timing, interleave, machine, median, spread
from bench.ours import Ours
from bench.peers import HuggingFace
from bench.shapes import ROOT, make, prompts
from generate import check_folder

PROMPT, SIZES = 32, {"float32": 4, "bfloat16": 2}
GOALS = {("124M", 1): 3000, ("345M", 1): 2000, ("124M", 32): 40_000}  # tokens/s in bfloat16 on an H100
TESTS = "engine engine_against_transformers graphs look_ahead judging kept prefixes"
LONGEST = 90  # seconds that the tests may take


def main() -> None:
    args = arguments()
    begun = time.monotonic()
    device = torch.device(args.device)
    results = {"machine": machine() | {"device": name_of(device)}, "bandwidth_gb_per_s": bandwidth(device) / 1e9}
    print(results, flush=True)
    with tempfile.TemporaryDirectory(prefix="rubric-bench-") as work:
        results["speed"] = [row for model in args.model for row in speed(Path(work), model, device, args, results)]
    results["tests"] = tests(args.device, args.tests.split())
    print(results["tests"], f"{time.monotonic() - begun:.0f} s in all", sep="\n")
    args.out.write_text(json.dumps(results, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="The engine on a GPU.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="the storyteller alone, few tokens, one round")
    parser.add_argument("--model", action="append", help="default: 124M, 345M; with --quick the storyteller")
    parser.add_argument(
        "--tests", default=TESTS, metavar="NAMES", help="test files, without test_ and .py; '' for none"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "gpu.json", help="the file to write")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device on this machine; --device cpu --quick shows how it goes without one.")
    args.model = args.model or (["storyteller"] if args.quick else ["124M", "345M"])
    return args


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device) -> float:
    """Bytes a second that are read and written together while a block is copied, which no cache holds."""
    block = torch.ones((1 if device.type == "cpu" else 8) << 28, dtype=torch.uint8, device=device)
    copy, times = torch.empty_like(block), []
    for _ in range(6):
        wait(device)
        begun = time.perf_counter()
        copy.copy_(block)
        wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * len(block) / median(times[1:])


def speed(work: Path, model: str, device: torch.device, args, results: dict) -> list[dict]:
    """A row for every precision, contender and number of rows."""
    path, rows, new = make(work, model), [], 24 if args.quick else 128
    for precision in ("bfloat16", "float32") if device.type == "cuda" else ("float32",):
        both = {"ours": Ours(precision, device=args.device), "HF": HuggingFace(precision, 1, args.device)}
        for contender in both.values():
            contender.load(path)
        for batch in (1, 8, 32):
            found = turns(both, batch, new, 1 if args.quick else 3, model)
            rows += [row(path, precision, batch, name, timings, results) for name, timings in found.items()]
            print(*rows[-len(found) :], sep="\n", flush=True)
    return rows


def turns(both: dict, batch: int, new: int, rounds: int, seed: str) -> dict[str, list[Timing]]:
    """Timings of both, in turns; the first, which does not count, captures the graphs."""
    ids = [prompts(batch, PROMPT, f"{seed} {batch} {number}") for number in range(rounds + 1)]
    return interleave(rounds, {name: lambda n, one=one: one.turn(ids[n], new) for name, one in both.items()})


def row(path: Path, precision: str, batch: int, name: str, timings: list[Timing], results: dict) -> dict:
    """What was found, beside the goal and the share of the bandwidth."""
    step = median(timing.step for timing in timings)
    share = bytes_read(path, batch, SIZES[precision]) / step / 1e9 / results["bandwidth_gb_per_s"]
    found = {"model": path.name, "precision": precision, "batch": batch, "contender": name}
    found |= {"tokens_per_s": round(batch / step, 1), "spread": round(spread(timing.step for timing in timings), 3)}
    found |= {"step_ms": round(step * 1000, 4), "bandwidth_share": round(share, 4)}
    found["first_ms"] = round(median(timing.first for timing in timings) * 1000, 3)
    goal = GOALS.get((path.name, batch)) if (name, precision) == ("ours", "bfloat16") else None
    return found | ({"goal": goal, "reached": batch / step >= goal} if goal else {})


def bytes_read(path: Path, batch: int, size: int) -> int:
    """Bytes that a step must read: all weights of the products once, and what each row holds after its prompt."""
    config = check_folder(path).config
    held = 2 * config.n_layer * config.n_embd * PROMPT
    return size * (sum(inside * outside for inside, outside in products(path)) + batch * held)


def tests(device: str, names: list[str]) -> dict:
    """How many of the engine's tests passed on the device, and the names of those that failed."""
    if not names:
        return {}
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        files = [f"tests/test_{name}.py" for name in names]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "4",
            "--dist",
            "loadfile",
            "--junit-xml",
            report.name,
            *files,
        ]
        run = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"RUBRIC_TEST_DEVICE": device}, start_new_session=True
        )
        try:
            run.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # with its workers
            run.wait()
            return {"problem": f"not done after {LONGEST} s"}
        cases = list(ET.parse(report.name).iter("testcase"))
    kinds = {kind: [case for case in cases if case.find(kind) is not None] for kind in ("failure", "error", "skipped")}
    bad = [f"{case.get('classname')}::{case.get('name')}" for kind in ("failure", "error") for case in kinds[kind]]
    return {"passed": len(cases) - len(bad) - len(kinds["skipped"]), "skipped": len(kinds["skipped"]), "failed": bad}


if __name__ == "__main__":
    main()
