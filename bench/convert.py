"""Is converting as fast as the disk? `python -m bench.convert [--shape 345M] [--rounds 3]`

A is `python -m convert ... --no-check` of a checkpoint with seeded random weights. B handles the same bytes plainly, one
after another: read, crc32c, sha256, write, fsync, read back with sha256. Rounds go A B A B; the ratio is of medians.
Peak anonymous memory (RssAnon) of A is sampled every 10 ms; the bound is the disk and sha256, not the processor's sums.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import google_crc32c

ROOT = Path(__file__).parent.parent
CHUNK = 8 * 2**20


def checkpoint(folder: Path, shape: str) -> Path:
    """Write a checkpoint of a true shape with --to-tf."""
    from bench.shapes import random_model

    random_model(folder / shape, shape)
    subprocess.run([sys.executable, "-m", "convert", "--to-tf", folder / shape, folder / "tf"], cwd=ROOT, check=True)
    shutil.rmtree(folder / shape)
    return folder / "tf"


def ours(source: Path, target: Path) -> tuple[float, int]:
    """Seconds, and the peak of RssAnon in kB."""
    shutil.rmtree(target, ignore_errors=True)
    begun, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "convert", source, target, "--no-check"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
            time.sleep(0.01)
    assert process.returncode == 0
    return time.perf_counter() - begun, peak


def plainly(source: Path, target: Path) -> float:
    begun = time.perf_counter()
    crc, digest = 0, hashlib.sha256()
    with source.open("rb") as data, target.open("wb") as out:
        while piece := data.read(CHUNK):
            crc = google_crc32c.extend(crc, piece)
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    again = hashlib.sha256()
    with target.open("rb") as data:
        while piece := data.read(CHUNK):
            again.update(piece)
    assert again.digest() == digest.digest()
    target.unlink()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description="Converting a checkpoint, against handling the same bytes plainly.")
    parser.add_argument("--shape", choices=["124M", "345M"], default="345M")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = checkpoint(folder, args.shape)
        data = next(source.glob("*.data-*"))
        results = []
        for _ in range(args.rounds + 1):  # the first round warms up
            results.append((*ours(source, folder / "made"), plainly(data, folder / "copy")))
        a, anonymous, b = (statistics.median(column) for column in zip(*results[1:], strict=True))
        print(f"{args.shape}: {data.stat().st_size / 1e9:.2f} GB")
        print(f"convert {a:.2f} s, plainly {b:.2f} s, ratio {a / b:.2f}; peak RssAnon {anonymous / 1000:.0f} MB")


if __name__ == "__main__":
    main()
