"""Does a model repeat its training text? `python -m bench.copied models/storyteller tales.txt [--samples 8] [--length 300]`

Prints the longest run of words of its own samples that also stands in the text. Words are what lies between spaces; case and
punctuation count. For a first idea of chance, the same is told of held-out text, if that is given with --held-out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from finetune.documents import Reading, pieces
from finetune.sources import find_sources
from generate import LocalEngine, Request, Sampling, check_folder


def texts_of(files: list[str]) -> Iterator[str]:
    """All text of some files, piece by piece."""
    found = find_sources(files, Path("/nonexistent"))  # of no use here: it is for what comes through a pipe
    return (text for file in found for text, _ in pieces(file, Reading()))


def words_of(files: list[str]) -> list[str]:
    return " ".join(texts_of(files)).split()


def samples(model: Path, count: int, length: int, temperature: float, top_k: int) -> Iterator[list[str]]:
    folder = check_folder(model.resolve())
    engine = LocalEngine(folder.path.parent, "cpu", "float32").start(folder)
    try:
        sampling = Sampling(max_new_tokens=length, temperature=temperature, top_k=top_k, samples=count, seed=1)
        request = Request(folder, sampling)
        run = engine.submit(request, request.new_log(folder.encode_prompt("")))
        run.wait_until_done()
    finally:
        engine.close()
    for sample in run.samples:
        text = folder.tokenizer.vocabulary.bytes_of(sample.read()["id"].tolist())
        yield text.decode("utf-8", "replace").split()


def longest(words: list[str], text: str) -> list[str]:
    """The longest run of words that stands in `text`, whose words have one space between and around them."""
    best: list[str] = []
    start = 0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in text:
            start += 1  # no longer run can begin here: one of its own beginnings is not in the text
        if end - start > len(best):
            best = words[start:end]
    return best


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.copied")
    p.add_argument("model", type=Path)
    p.add_argument("text", nargs="+", help="what it was trained on")
    p.add_argument("--held-out", nargs="+", default=[], help="text it was not trained on, to compare with")
    p.add_argument("--samples", type=int, default=8)
    p.add_argument("--length", type=int, default=300, help="tokens of a sample")
    p.add_argument("--temperature", type=float, default=0.8)
    p.add_argument("--top-k", type=int, default=40)
    args = p.parse_args()
    text = f" {' '.join(words_of(args.text))} "
    written = list(samples(args.model, args.samples, args.length, args.temperature, args.top_k))
    found = [longest(words, text) for words in written]
    best = max(found, key=len)
    print(f"{args.model}: the longest of {len(found)} samples' copied runs has {len(best)} words: {' '.join(best)!r}")
    print(f"  of each sample: {', '.join(str(len(one)) for one in found)}")
    if args.held_out:
        held, size = words_of(args.held_out), max(map(len, written))
        others = [len(longest(held[n * size : (n + 1) * size], text)) for n in range(len(written))]
        print(f"  of as much held-out text: {', '.join(map(str, others))}")


if __name__ == "__main__":
    main()
