"""`python -m finetune look`: what a training would find in a text, before it begins."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from finetune import data
from finetune.options import Options
from finetune.start import Start, find_folder, from_folder
from generate import Journal, Vocabulary, check_folder, read_vocabulary

SHOWN = 60  # tokens of an end of the text


def look_and_print(given: dict, options: Options, models: Path, journal: Journal) -> None:
    """Print what is found in `given["data"]`, and tell the journal; raises Refusal as a training would."""
    start = from_folder(check_folder(find_folder(given["model"], models)), options)
    cache = given.get("cache") or data.cache_folder()
    with tempfile.TemporaryDirectory(prefix="rubric-") as scratch:
        found = data.load(given["data"], (), options, start, cache, Path(scratch), sys.stderr.isatty())
        ends = ends_of(found, start)
    print(*found.assumed, found.told, sep="\n")
    for name, text in ends.items():
        print(f"\n{name}: {text!r}")
    assumed = [line.whole() for line in found.assumed]
    journal.tell("found", **found.facts(), cut=found.cut, assumed=assumed, ends=ends)


def ends_of(found: data.Data, start: Start) -> dict[str, str]:
    """How the text begins and ends, and how what is held out begins, as the model will have it; a line break ends each
    document."""
    everything = found.parts["train"].tokens  # all parts are stretches of the same
    shown = {"first": everything[:SHOWN], "last": everything[-SHOWN:]}
    if (held := found.parts.get("validation")) is not None:
        shown["held_out"] = np.concatenate([held.document(n) for n in range(min(len(held), SHOWN))])[:SHOWN]
    vocabulary = read_vocabulary(start.tokenizer, start.tokenizer.get_vocab_size(with_added_tokens=True))
    return {name: told(np.asarray(ids), start.end, vocabulary) for name, ids in shown.items()}


def told(ids: np.ndarray, end: int, vocabulary: Vocabulary) -> str:
    """The text of some tokens."""
    documents = np.split(ids, np.flatnonzero(ids == end))
    lines = (vocabulary.bytes_of(document.tolist()).decode("utf-8", "replace") for document in documents)
    return "\n".join(lines).strip("\n")
