"""What a model writes of its own examples: real runs of this server's engine, written once, and nobody's.

Pages show them to whoever has not written yet. They are found by what they were made of: other weights or another example
make another run.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from sqlalchemy.exc import IntegrityError

from generate import BY_ITSELF, Busy, Example, ModelFolder, Refusal, RunState, Sampling, languages, parse_with_preset
from webapp.runs.derivation import fresh
from webapp.runs.kinds import NOBODY, GoneReason
from webapp.runs.models import Models
from webapp.runs.repository import get_run, why_gone
from webapp.runs.service import Service
from webapp.runs.tables import Run, db

log = logging.getLogger(__name__)

BEGINNINGS = (  # for a model that brings no examples
    Example("Once upon a time"),
    Example("The king had three daughters, and the youngest"),
    Example('"You must never open the last door," said the old woman'),
    Example("Far out at sea, where the water is as blue as"),
)
CHINESE = (  # for one whose vocabulary is Chinese
    Example("从前有座山，山里有座庙，庙里有个老和尚"),
    Example("国王有三个女儿，最小的那个"),
    Example("老人说：“最后那扇门，千万不能打开。”"),
    Example("大海深处，那里的水蓝得像"),
)
SHOWN = 3  # of a model's examples that are written
TRIES = 3  # at one that was stopped, or that failed


class Examples:
    """Those of one server; all needs an app context."""

    def __init__(self, service: Service, models: Models):
        self._service, self._models = service, models
        self._cannot: set[tuple[ModelFolder, Example]] = set()  # what the engine refuses

    def find(self, folder: ModelFolder, example: Example) -> Run | None:
        """The run that was made of an example, once it is whole."""
        try:
            return self._find(self._name_of(folder, example))
        except Refusal:  # the weights are not those that its folder claims
            return None

    def is_on_its_way(self, folder: ModelFolder, example: Example) -> bool:
        """Whether an example's run is in line, or being written."""
        try:
            name = self._name_of(folder, example)
        except Refusal:
            return False
        runs = [get_run(id_of(name, number)) for number in range(TRIES)]
        return any(run is not None and run.state != RunState.DONE for run in runs)

    def write(self, folder: ModelFolder, examples: Iterable[Example]) -> None:
        """Put those in line that are not there; what cannot be written now is left for the next time."""
        for example in examples:
            if (folder, example) in self._cannot:
                continue
            try:
                name = self._name_of(folder, example)
                if self._find(name) is None:
                    self._start(folder, example, name)
            except Busy:
                return
            except Refusal as refusal:
                log.warning("an example of %s cannot be written: %s", folder.name, languages.in_english(refusal))
                self._cannot.add((folder, example))

    def tend(self, model: str) -> None:
        """Write the first examples of the model that the page offers first, as soon as there is an engine for it."""
        if self._models.problem() is None:
            try:
                folder = self._models.find(self._models.preferred(model))
            except Refusal:  # its folder is not whole, which the page's list says
                return
            self.write(folder, folder.examples[:SHOWN])

    def _name_of(self, folder: ModelFolder, example: Example) -> str:
        """As `name_of`, with the options that this server's engine has."""
        return name_of(folder, example, self._models.defaults_for(folder))

    def _find(self, name: str) -> Run | None:
        for number in range(TRIES):
            run = get_run(id_of(name, number))
            if (
                run is not None
                and run.state == RunState.DONE
                and all(s.finish_reason in BY_ITSELF for s in run.samples)
            ):
                return run
        return None

    def _start(self, folder: ModelFolder, example: Example, name: str) -> None:
        if any(why_gone(id_of(name, number)) == GoneReason.TAKEN_DOWN for number in range(TRIES)):
            return  # another try would say the same
        for number in range(TRIES):
            run_id = id_of(name, number)
            run = get_run(run_id)
            if run is not None and run.state != RunState.DONE:
                self._service.log_of(run)  # as one who watches: until it is done it is not given up
                return
            if run is None and why_gone(run_id) is None:
                try:
                    sampling = asked(example, self._models.defaults_for(folder))
                    self._service.start(folder, fresh(folder, example.prompt), sampling, NOBODY, run_id)
                except IntegrityError:  # another server of this database was quicker
                    db.session.rollback()
                return


def examples_of(folder: ModelFolder | None) -> tuple[Example, ...]:
    """A model's examples; beginnings that any will go on with where it brings none."""
    return folder.examples if folder and folder.examples else beginnings_of(folder)


def beginnings_of(folder: ModelFolder | None) -> tuple[Example, ...]:
    """Beginnings in the language that a model's vocabulary was made for."""
    return CHINESE if folder is not None and is_chinese(folder) else BEGINNINGS


@lru_cache(64)
def is_chinese(folder: ModelFolder) -> bool:
    """Whether a vocabulary was made for Chinese above all: BERT's has a token for each character, others for less than one."""
    tokenizer, text = folder.tokenizer, "".join(example.prompt for example in CHINESE)
    with suppress(Refusal):  # it has no tokens for these characters at all
        ids = tokenizer.encode(text)
        few = len(ids) <= len(text) if not tokenizer.is_lossless else len(ids) < 0.8 * len(text)
        return few and 2 * ids.count(tokenizer.unknown_id) < len(ids)
    return False


def asked(example: Example, defaults: dict[str, float]) -> Sampling:
    """The options with which an example is written, by a model with these `defaults`. One without a seed has one here all
    the same: its run stays as it is."""
    given = {"preset": "model", "seed": 1} | example.fields
    return replace(parse_with_preset(given, defaults), samples=1)


def name_of(folder: ModelFolder, example: Example, defaults: dict[str, float]) -> str:
    """What an example's run is made of, in hex; raises Refusal where the weights are not those that are claimed."""
    made_of = [folder.name, folder.fingerprint(), example.prompt, asked(example, defaults).as_dict()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def id_of(name: str, number: int) -> str:
    """The id of the run of an example, at try `number`."""
    return f"example-{name[:14]}-{number}"
