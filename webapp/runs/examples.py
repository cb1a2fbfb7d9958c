"""What a model writes of its own examples: real runs of this server's engine, written once, and nobody's.

Pages show them to whoever has not written yet. They are found by what they were made of: other weights or another example
make another run.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy.exc import IntegrityError

from generate import BY_ITSELF, Busy, Example, ModelFolder, Refusal, RunState, Sampling, parse_with_preset
from webapp.runs.derivation import fresh
from webapp.runs.kinds import NOBODY
from webapp.runs.models import Models
from webapp.runs.repository import get_run, is_gone
from webapp.runs.service import Service
from webapp.runs.tables import Run, db

log = logging.getLogger(__name__)

BEGINNINGS = (  # for a model that brings no examples
    Example("Once upon a time"),
    Example("The king had three daughters, and the youngest"),
    Example('"You must never open the last door," said the old woman'),
    Example("Far out at sea, where the water is as blue as"),
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
            return self._find(name_of(folder, example))
        except Refusal:  # the weights are not those that its folder claims
            return None

    def is_on_its_way(self, folder: ModelFolder, example: Example) -> bool:
        """Whether an example's run is in line, or being written."""
        try:
            name = name_of(folder, example)
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
                name = name_of(folder, example)
                if self._find(name) is None:
                    self._start(folder, example, name)
            except Busy:
                return
            except Refusal as refusal:
                log.warning("an example of %s cannot be written: %s", folder.name, refusal)
                self._cannot.add((folder, example))

    def tend(self, model: str) -> None:
        """Write the first examples of the model that the page offers first, as soon as there is an engine for it."""
        if self._models.problem() is None:
            try:
                folder = self._models.find(self._models.preferred(model))
            except Refusal:  # its folder is not whole, which the page's list says
                return
            self.write(folder, folder.examples[:SHOWN])

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
        for number in range(TRIES):
            run_id = id_of(name, number)
            run = get_run(run_id)
            if run is not None and run.state != RunState.DONE:
                self._service.log_of(run)  # as one who watches: until it is done it is not given up
                return
            if run is None and is_gone(run_id) is None:
                try:
                    self._service.start(folder, fresh(folder, example.prompt), asked(folder, example), NOBODY, run_id)
                except IntegrityError:  # another server of this database was quicker
                    db.session.rollback()
                return


def examples_of(folder: ModelFolder | None) -> tuple[Example, ...]:
    """A model's examples; beginnings that any will go on with where it brings none."""
    return folder.examples if folder and folder.examples else BEGINNINGS


def asked(folder: ModelFolder, example: Example) -> Sampling:
    """The options with which an example is written. One without a seed has one here all the same: its run stays as it is."""
    given = {"preset": "model", "seed": 1} | example.fields
    return replace(parse_with_preset(given, dict(folder.defaults)), samples=1)


def name_of(folder: ModelFolder, example: Example) -> str:
    """What an example's run is made of, in hex; raises Refusal where the weights are not those that are claimed."""
    made_of = [folder.name, folder.fingerprint(), example.prompt, asked(folder, example).as_dict()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def id_of(name: str, number: int) -> str:
    """The id of the run of an example, at try `number`."""
    return f"example-{name[:14]}-{number}"
