"""Small trainings for tests: the command line in this process, on small models and texts."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file

from finetune.__main__ import main

WORDS = "the old king said to the young fox that the sea was far away one two three"


def some_text(documents: int, seed: int = 0) -> str:
    """Documents of one line each, of words in an order that the seed fixes."""
    numbers = torch.Generator().manual_seed(seed)
    words, lines = WORDS.split(), []
    for _ in range(documents):
        count = int(torch.randint(3, 14, (1,), generator=numbers))
        lines.append(" ".join(words[i] for i in torch.randint(len(words), (count,), generator=numbers).tolist()))
    return "".join(line + "\n" for line in lines)


class Bench:
    """A folder with a text and models, in which trainings are run."""

    def __init__(self, root: Path, model: Path, text: str | None = None):
        torch.set_num_threads(1)  # sums in another order are other sums; and these models are small
        self.root, self.model = root, model
        self.text = root / "friends.txt"
        self.text.write_text(some_text(60) if text is None else text)

    def arguments(self, name: str, *options, data=None, model=None) -> list[str]:
        chosen = ["--model", str(model or self.model)] if model != "" else ["--from-scratch"]
        quiet = [] if "--sample-every" in options else ["--sample-every", "0"]
        where = ["--out", str(self.root / name), "--cache", str(self.root / "cache"), "--device", "cpu"]
        return [str(data or self.text), *chosen, *where, *quiet, *map(str, options)]

    def train(self, name: str, *options, **kwargs) -> int:
        return main(self.arguments(name, *options, **kwargs))

    def made(self, name: str, *options, **kwargs) -> Path:
        """Train, and return the folder."""
        assert self.train(name, *options, **kwargs) == 0
        return self.root / name

    def left(self) -> set[str]:
        """What lies in the folder beside the text and the cache, hidden or not."""
        return {path.name for path in self.root.iterdir()} - {self.text.name, "cache"}


def run_json(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in run_json(folder)["history"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@contextmanager
def cut_at(step: int) -> Iterator[None]:
    """Trainings of this process stop after so many steps, as by Ctrl-C."""
    from finetune.progress import Watch

    real = Watch.on_step_end

    def told(self, args, state, control, **kwargs):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, args, state, control, **kwargs)

    with mock.patch.object(Watch, "on_step_end", told):
        yield
