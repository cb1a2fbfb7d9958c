"""Does it forget who is who? `python -m bench.names models/storyteller tales-valid.txt [--windows 200]`

Held-out text is cut into windows of 400 tokens. Of each the model is given the first 60 tokens, and goes on. Told is in how
many windows a name that stands in the first 60 tokens stands in the last 100 too: of what the model wrote, and of the text.

A name is a word with a capital that follows a word in small letters, and that the whole text never has in small letters.
"""

import argparse
import re
from pathlib import Path

from bench.circles import TOGETHER, Asked, finished
from bench.copied import texts_of
from generate import LocalEngine, check_folder

LENGTH, BEGINNING, END = 400, 60, 100  # tokens of a window, of what is given, and of where the name is looked for
CAPITAL = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
WORD = re.compile(r"\b\w+\b")


class Window:
    """A stretch of the text: the names in its beginning, and whether one of them stands at its end too."""

    def __init__(self, beginning: str, end: str, common: set[str]):
        self.beginning = beginning
        self.names = {name for name in CAPITAL.findall(beginning) if name.lower() not in common}
        self.keeps = self.has_name(end)

    def has_name(self, text: str) -> bool:
        """Whether one of the names stands in a text."""
        return bool(self.names & set(WORD.findall(text)))


def windows_of(text: str, folder, most: int) -> list[Window]:
    """Up to `most` windows in whose beginning there is a name."""
    ids, vocabulary = folder.encode_prompt(text), folder.tokenizer.vocabulary
    common = {word for word in WORD.findall(text) if word.islower()}
    found = []
    for start in range(0, len(ids) - LENGTH, LENGTH):
        window = ids[start : start + LENGTH]
        parts = (vocabulary.bytes_of(part).decode("utf-8", "ignore") for part in (window[:BEGINNING], window[-END:]))
        found.append(Window(*parts, common))
    return [window for window in found if window.names][:most]


def kept(asked: Asked, windows: list[Window]) -> int:
    """In how many windows the model keeps a name that stands in the beginning."""
    vocabulary, count = asked.folder.tokenizer.vocabulary, 0
    options = {"max_new_tokens": LENGTH - BEGINNING, "min_new_tokens": LENGTH - BEGINNING}
    for start in range(0, len(windows), TOGETHER):
        some = windows[start : start + TOGETHER]
        logs = [asked.begin(window.beginning, seed=start + n, **options) for n, window in enumerate(some)]
        for window, log in zip(some, logs, strict=True):
            end = vocabulary.bytes_of(finished(log).samples[0].read()["id"].tolist()[-END:])
            count += window.has_name(end.decode("utf-8", "ignore"))
    return count


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.names", description="Does it forget who is who?")
    p.add_argument("model", type=Path)
    p.add_argument("text", nargs="+", help="what it was not trained on")
    p.add_argument("--preset", default="steady")
    p.add_argument("--windows", type=int, default=200, help="at most")
    p.add_argument("--precision", default="int8")
    args = p.parse_args()
    folder = check_folder(args.model.resolve())
    windows = windows_of("".join(texts_of(args.text)), folder, args.windows)
    if not any(window.keeps for window in windows):
        p.error("no window of the text keeps a name from its beginning to its end.")
    engine = LocalEngine(folder.path.parent, "cpu", args.precision).start(folder)
    try:
        own, theirs = kept(Asked(engine, folder, args.preset), windows), sum(window.keeps for window in windows)
    finally:
        engine.close()
    print(
        f"{args.model}: a name is kept in {own} of {len(windows)} windows; in the text in {theirs}; ratio {own / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
