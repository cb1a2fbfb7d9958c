"""How fast is the engine beside Hugging Face `generate`? `make bench`, or `python -m bench.decode --shape 124M`.

Same weights, same prompts, float32, one thread each, OpenMP waiting passively for both. Rounds go A B A B; the table
shows medians. Ours samples every row with options and noise of its own and reports log-probabilities, ranks, entropy and
ten alternatives; `generate` samples the batch with one set of options and reports nothing.

The bound is memory: each step reads all weights once, so a step cannot be shorter than their bytes over the bandwidth,
which is measured in the same run.

    model        batch   ours tok/s   HF tok/s   ratio   ours first token   HF first token   share of the bound
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import generate  # first: it tells OpenMP to wait passively before torch is imported

SHAPES = {"124M": (12, 768, 12), "345M": (24, 1024, 16)}
ROOT = Path(__file__).parent.parent
PROMPT, NEW = 32, 32


def random_model(folder: Path, shape: str) -> None:
    """Write seeded random weights of a true shape, with the storyteller's tokenizer (speed needs no meaning)."""
    layers, width, heads = SHAPES[shape]
    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=heads, bos_token_id=None, eos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((ROOT / "models/storyteller" / name).read_bytes())


def ours(engine, folder, batch: int, ids: list[int]) -> tuple[float, float]:
    """Write NEW tokens for `batch` requests of their own; returns seconds to the first token and in all."""
    begun = time.perf_counter()
    runs = []
    for seed in range(batch):
        options = {"max_new_tokens": NEW, "seed": seed, "top_k": 40, "temperature": 0.9}
        runs.append(engine.submit(generate.Request(folder, tuple(ids), generate.parse_sampling(options))))
    version = 0
    while not len(runs[0].samples[0]):
        version = runs[0].wait(version, 60)
    first = time.perf_counter() - begun
    for run in runs:
        version = -1
        while not run.done:
            version = run.wait(version, 60)
    return first, time.perf_counter() - begun


@torch.inference_mode()
def theirs(model, batch: int, ids: list[int]) -> tuple[float, float]:
    """The same of `transformers`; the first token's time is that of a call for one token."""
    given = torch.tensor([ids] * batch)
    options = {"do_sample": True, "top_k": 40, "temperature": 0.9, "pad_token_id": 0, "eos_token_id": None}
    begun = time.perf_counter()
    model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=1, **options)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=NEW, min_new_tokens=NEW, **options)
    return first, time.perf_counter() - begun


def bandwidth() -> float:
    """Bytes a second that one thread reads from memory (best of five sweeps over 512 MB)."""
    block = torch.ones(2**27)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - begun)
    return block.nbytes / min(times)


def measure(name: str, models: Path, batches: list[int], rounds: int) -> None:
    engine = generate.Engine(models, device="cpu", precision="float32", threads=1).start(name)
    while problem := engine.ready():
        assert "loaded" in problem or "started" in problem, problem
        time.sleep(0.05)
    folder = generate.find_model(models, name)
    reference = GPT2LMHeadModel.from_pretrained(models / name, dtype=torch.float32).eval()
    weights = sum(p.nbytes for p in reference.parameters())
    floor = weights / bandwidth()
    ids = list(range(100, 100 + PROMPT))
    for batch in batches:
        results = []
        for _ in range(rounds + 1):  # the first round warms up
            results.append((ours(engine, folder, batch, ids), theirs(reference, batch, ids)))
        (first_a, whole_a), (first_b, whole_b) = (
            [statistics.median(r[side][part] for r in results[1:]) for part in (0, 1)] for side in (0, 1)
        )
        speeds = [batch * NEW / whole for whole in (whole_a, whole_b)]
        print(
            f"{name:12} {batch:5} {speeds[0]:12.0f} {speeds[1]:10.0f} {speeds[0] / speeds[1]:7.2f} {first_a * 1000:15.0f} ms"
            f" {first_b * 1000:13.0f} ms {floor * NEW / whole_a:20.0%}",
            flush=True,
        )
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The engine against Hugging Face generate, whole requests, float32.")
    parser.add_argument("--shape", action="append", choices=["storyteller", *SHAPES], help="default: storyteller, 124M")
    parser.add_argument("--batch", action="append", type=int, help="default: 1, 8, 32")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(__doc__.rstrip().splitlines()[-1].strip())
    with tempfile.TemporaryDirectory() as folder:
        for shape in args.shape or ["storyteller", "124M"]:
            if shape in SHAPES:
                random_model(Path(folder) / shape, shape)
            root = Path(folder) if shape in SHAPES else ROOT / "models"
            measure(shape, root, args.batch or [1, 8, 32], args.rounds)


if __name__ == "__main__":
    main()
