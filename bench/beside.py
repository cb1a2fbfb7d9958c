"""Does a training slow the writing down? Viewers of a real gunicorn, alone and beside a training that its workshop runs.

The training is begun as the page begins it: the form is posted, looked at and begun, so its process has the priority that
`RUBRIC_NICE` gives it, and as many threads as it likes. It trains a copy of the model that is being written with. For the
turns without it, it is held by SIGSTOP: its memory stays, and it takes no time of any core. The turns alternate, PAIRS of
them a round. The bound is the same writing while the training is held: a ratio of 1 is a training that costs
nobody anything. Two things stand in its way: even at niceness 15 Linux gives a thread 36 parts of a core beside 1024 parts,
so 0.97 is what it leaves where all cores are wanted; and whatever runs there takes of the memory's bandwidth and the caches.

That the training did work is told beside it: the cores that it had while the others wrote, and while nobody did.
"""

import os
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.measure import Failed, interleave, median, percentile
from bench.serve import Server
from bench.shapes import SAMPLING, WORDS, texts
from bench.viewers import Viewers
from webapp.http.operator import COOKIE, Keys

PAIRS, WARM_UP = 3, 8
PATIENCE = 300.0  # seconds until a training must have begun
ALL_CORES = 0  # threads, as the engine's measurement finds them worth it: what `make run` has
OPTIONS = {"steps": "100000", "sample_every": "0"}  # it ends when we do
OPTIONS |= {"special_tokens": "eos"}  # models here have no end
IDLE = 3.0  # seconds in which the training has the machine for itself


def beside(work: Path, model: str, writers: list[int], rounds: int, new: int, precision: str) -> list[dict]:
    """A row for each number of writers with a model in the folder `work`."""
    rows = []
    with Server(work, model, precision, ALL_CORES) as server, Training(server, model) as training:
        watching = Viewers(server.port, model)
        free = training.cores_while(lambda: time.sleep(IDLE))[0]
        for count in writers:

            def turn(held: bool, number: int, count=count) -> dict:
                length = new if number else WARM_UP
                wishes = [SAMPLING | {"max_new_tokens": length, "seed": seed} for seed in range(count)]
                prompts = texts(count, f"{count} {number} {held}")  # none twice: what was read once is remembered
                training.hold(held)
                cores, seen = training.cores_while(lambda: watching.watch(prompts, wishes))
                return seen | {"cores": cores}

            results = interleave(PAIRS * rounds, {"alone": partial(turn, True), "beside": partial(turn, False)})
            if len(results) < 2:
                raise Failed("there is nothing to compare")
            rows.append({"model": model, "writers": count, "training_alone_cores": free} | summary(**results))
    return rows


def summary(alone: list[dict], beside: list[dict]) -> dict:
    """Medians over the turns; the ratios are each of two turns that followed one another."""
    pairs = list(zip(alone, beside, strict=True))
    row = {"ratio": median(two["tokens_per_s"] / one["tokens_per_s"] for one, two in pairs)}
    for name, turns in (("alone", alone), ("beside", beside)):
        row[f"{name}_tokens_per_s"] = median(turn["tokens_per_s"] for turn in turns)
        row[f"{name}_first_ms"] = 1000 * percentile([first for turn in turns for first in turn["first"]], 0.5)
        row[f"{name}_gap_p99_ms"] = 1000 * percentile([gap for turn in turns for gap in turn["gaps"]], 0.99)
    return row | {"training_cores": median(turn["cores"] for turn in beside)}


class Training:
    """A training in a server's workshop, whose process can be held; used with `with`."""

    def __init__(self, server: Server, model: str):
        self._server, self._model, self._pid, self._held = server, model, 0, False
        keys = Keys(server.instance)
        self._cookie = f"{COOKIE}={keys.exchange(keys.new_link_key())}"

    def __enter__(self) -> "Training":
        text = " ".join(random.Random(1).choices(WORDS.split(), k=20_000))
        form = {"text": text, "model": self._model, "makes": f"{self._model}-taught"} | OPTIONS
        job = self._ask("/workshop/teach", urlencode(form)).rsplit("/", 1)[-1]
        self._until(f"/workshop/jobs/{job}", 'class="job draft"')
        self._ask(f"/workshop/jobs/{job}/begin", "")
        self._until(f"/workshop/jobs/{job}", "It learns.")
        self._pid = pid_in(self._server.instance / "jobs" / job)
        return self

    def __exit__(self, *_) -> None:
        self.hold(False)  # so that it ends with its server

    def hold(self, held: bool) -> None:
        """Stop its process where it is, or let it go on."""
        if held != self._held:
            os.kill(self._pid, signal.SIGSTOP if held else signal.SIGCONT)
            self._held = held

    def cores_while(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """How many cores it had in the mean while `work` was done, and what that gave."""
        before, begun = self._worked(), time.monotonic()
        done = work()
        return (self._worked() - before) / (time.monotonic() - begun), done

    def _worked(self) -> float:
        """Seconds of all its threads together."""
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            raise Failed("the training has ended") from None
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def _until(self, path: str, word: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while word not in (page := self._ask(path)):
            if time.monotonic() > deadline or 'class="job failed"' in page:
                said = re.search(r'role="status">([^<]*)', page)
                raise Failed(f"the training did not begin: {said and said[1]}")
            time.sleep(0.2)

    def _ask(self, path: str, form: str | None = None) -> str:
        """A page; of a form the address that it leads to."""
        data = None if form is None else form.encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._server.port}{path}", data, {"Cookie": self._cookie})
        answer = urllib.request.urlopen(request, timeout=60)
        return answer.read().decode() if form is None else answer.url


def pid_in(folder: Path) -> int:
    """The process that works in a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                return int(process.name)
        except OSError:  # another's, or it has ended
            continue
    raise Failed("there is no process of the training to be found (Linux alone tells of them)")
