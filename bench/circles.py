"""Does it go in circles? `python -m bench.circles models/storyteller [--preset steady] [--runs 200] [--length 400]`

A run goes in circles when some stretch of eight tokens stands in it three times or more. The same prompts and seeds are
written with the usual settings (temperature 0.8, top_k 40) and with a preset; printed are the shares of both, and their ratio. With `--held-out
FILE` the model also reads a text under both settings: what it thinks of a text must be untouched by how it is asked.

Source of the measure: n-gram repetition as in Welleck et al. 2019, "Neural text generation with unlikelihood training".
"""

import argparse
from collections import Counter
from pathlib import Path

from bench.copied import texts_of
from generate import LocalEngine, ModelFolder, Request, RunLog, check_folder, parse_with_preset, perplexity

PROMPTS = (
    "Once upon a time",
    "The king had three daughters",
    "There was once a poor woman",
    "The fox said to the bear",
)
STRETCH, TIMES = 8, 3
TOGETHER = 32  # runs in the engine at once
READ = 8000  # characters of the held-out text


def goes_in_circles(ids: list[int]) -> bool:
    """Whether a stretch of eight tokens stands three times in a text; stretches may overlap."""
    seen = Counter(tuple(ids[start : start + STRETCH]) for start in range(len(ids) - STRETCH + 1))
    return max(seen.values(), default=0) >= TIMES


class Asked:
    """A model, asked with one preset, or with none in the usual way, whatever the model's own is."""

    def __init__(self, engine: LocalEngine, folder: ModelFolder, preset: str | None):
        self.engine, self.folder, self.preset, self.name = engine, folder, preset, preset or "usual"

    def begin(self, prompt: str, **given) -> RunLog:
        """Put a run in line."""
        defaults = dict(self.folder.defaults) if self.preset else {}
        sampling = parse_with_preset(given | {"preset": self.preset}, defaults)
        request = Request(self.folder, sampling, owner=str(given.get("seed")))
        return self.engine.submit(request, request.new_log(self.folder.encode_prompt(prompt)))

    def circling(self, runs: int, length: int) -> int:
        """How many of so many runs of `length` tokens go in circles."""
        found = 0
        for start in range(0, runs, TOGETHER):
            some = range(start, min(runs, start + TOGETHER))
            logs = [
                self.begin(PROMPTS[n % len(PROMPTS)], seed=n, max_new_tokens=length, min_new_tokens=length)
                for n in some
            ]
            found += sum(goes_in_circles(finished(log).samples[0].read()["id"].tolist()) for log in logs)
        return found

    def reads(self, text: str) -> str:
        """What the model thinks of a text."""
        log = finished(self.begin(text, seed=0, max_new_tokens=0))
        return str(perplexity(log.prompt, self.folder.tokenizer.vocabulary))


def finished(log: RunLog) -> RunLog:
    """Wait until a run is done; raises RuntimeError where it failed."""
    log.wait_until_done()
    if log.samples[0].error:
        raise RuntimeError(str(log.samples[0].error))
    return log


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.circles", description="Does it go in circles?")
    p.add_argument("model", type=Path)
    p.add_argument("--preset", default="steady")
    p.add_argument("--runs", type=int, default=200)
    p.add_argument("--length", type=int, default=400, help="tokens of a run")
    p.add_argument("--precision", default="float32")
    p.add_argument("--held-out", help="a text to be read under both settings")
    args = p.parse_args()
    folder = check_folder(args.model.resolve())
    engine = LocalEngine(folder.path.parent, "cpu", args.precision).start(folder)
    try:
        own, other = (Asked(engine, folder, preset) for preset in (None, args.preset))
        counts = [asked.circling(args.runs, args.length) for asked in (own, other)]
        for asked, count in zip((own, other), counts, strict=True):
            print(
                f"{asked.name:<8} {count} of {args.runs} runs of {args.length} tokens go in circles: {count / args.runs:.1%}"
            )
        print(f"ratio    {counts[1] / counts[0]:.2f}" if counts[0] else "ratio    none: no run went in circles before")
        if args.held_out:
            text = "".join(texts_of([args.held_out]))[:READ]
            for asked in (own, other):
                print(f"{asked.name:<8} held-out text: {asked.reads(text)}")
    finally:
        engine.close()


if __name__ == "__main__":
    main()
