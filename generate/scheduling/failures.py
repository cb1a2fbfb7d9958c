"""What is done when something fails. All rules are here, and the places that carry them out:

what failed                         who suffers, and what is done                              where
the device                          nobody, RESTARTS times in a row: the model is loaded anew   LoadedModels
                                    and its runs go on (`Batch.take_over`); then all runs on
                                    it end (`Batch.abandon`)
memory ran out in a step            the remembered texts, else the run that came last; the      `free_memory`
                                    step is tried again
anything else in a step             its parts are done one by one; what fails again ends        `try_apart`
seating                             nobody: it is done text by text                             `seat_apart`
judging what was read               nobody: its numbers stay unknown                            `judge_some`, Judging
seating one, or going on to score   the sequences it was for                                    `guard`
a sequence's numbers out of range   that sequence                                               Delivery, Scoring
admitting a run                     that run                                                    Admission
remembering a text, for memory      the remembered texts                                        PrefixCache, Prefills
the engine's thread                 everybody                                                   LocalEngine
"""

import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from generate.errors import what_failed
from generate.interface.states import FinishReason
from generate.scheduling.delivery import Delivery
from generate.scheduling.forward import Work
from generate.scheduling.judging import Judging
from generate.scheduling.memory import out_of_memory, poisoned
from generate.scheduling.prefill import Prefill
from generate.scheduling.prefix_cache import PrefixCache
from generate.scheduling.sequence import Sequence

log = logging.getLogger(__name__)

RESTARTS = 3  # times in a row that a device may fail before the runs on it are given up


class Remedy(Enum):
    """What helps against an exception that a step raised."""

    RELOAD = auto()  # the device failed: nothing on it can be trusted any more
    FREE = auto()  # memory ran out
    APART = auto()  # some part of the work is at fault


def remedy(error: Exception) -> Remedy:
    """What helps against an exception, by its class and its text."""
    if poisoned(error):
        return Remedy.RELOAD
    return Remedy.FREE if out_of_memory(error) else Remedy.APART


def worth_restarting(error: Exception, times: int) -> bool:
    """Whether a model that failed as a whole, so many times in a row, is to be loaded anew."""
    return remedy(error) is Remedy.RELOAD and times <= RESTARTS


class Failing(Protocol):
    """What the rules need of a batch. It is handed in: one that its own parts held would outlive its use."""

    prefix_cache: PrefixCache
    delivery: Delivery
    judging: Judging

    @property
    def sequences(self) -> list[Sequence]:
        """See `Batch.sequences`."""

    def admitted(self) -> list[Sequence]:
        """See `Batch.admitted`."""

    def everyone(self) -> list[Sequence]:
        """See `Batch.everyone`."""

    def do(self, work: Work) -> None:
        """See `Batch.do`."""

    def seat(self, prefills: list[Prefill]) -> None:
        """See `Batch.seat`."""

    def sweep(self) -> None:
        """See `Batch.sweep`."""


def try_apart(batch: Failing, error: Exception, work: Work) -> None:
    """A step failed as a whole: free memory if that was the reason, else do its parts one by one.

    Raises `error` where the device failed.
    """
    match remedy(error):
        case Remedy.RELOAD:
            raise error
        case Remedy.FREE:
            free_memory(batch, error)
        case Remedy.APART:
            if work.parts and (batch.sequences or len(work.parts) > 1):
                log.warning("a step failed (%s); trying its parts", error)
                guard(batch, lambda: batch.do(Work(True, [])), batch.sequences)
                for part in work.parts:
                    guard(batch, lambda part=part: batch.do(Work(False, [part])), part[0].everyone)
            else:
                reading = [sequence for prefill, _ in work.parts for sequence in prefill.everyone]
                end(batch, error, batch.sequences or reading)


def seat_apart(batch: Failing, prefills: list[Prefill]) -> None:
    """Seat those who wait for some texts, all at once; text by text where that fails.

    Raises the error where the device failed.
    """
    if len(prefills) > 1:
        try:
            batch.seat(prefills)
        except Exception as error:
            if remedy(error) is Remedy.RELOAD:
                raise
            log.warning("seating %d texts at once failed (%s); seating each", len(prefills), error)
    for prefill in prefills:
        if prefill.is_read:
            guard(batch, lambda prefill=prefill: batch.seat([prefill]), prefill.sequences)


def judge_some(batch: Failing, count: int) -> None:
    """Judge some tokens that were read. Raises the error where the device failed."""
    try:
        batch.judging.go_on(count)
    except Exception as error:
        match remedy(error):
            case Remedy.RELOAD:
                raise
            case Remedy.FREE if batch.prefix_cache.drop():
                log.warning("judging failed (%s); trying again without the remembered texts", error)
            case _:
                log.error("what the model thought of some prompts stays unknown", exc_info=error)
                batch.judging.give_up()


def guard(batch: Failing, work: Callable[[], None], touched: list[Sequence]) -> None:
    """Do `work`; an exception ends the sequences it touched with `error`, and the batch goes on."""
    touched = list(touched)  # as they are now: half-done work may have moved them
    try:
        work()
    except Exception as error:
        match remedy(error):
            case Remedy.RELOAD:
                raise
            case Remedy.FREE:
                free_memory(batch, error)
            case Remedy.APART:
                end(batch, error, touched)


def free_memory(batch: Failing, error: Exception) -> None:
    """Give up remembered texts; if there are none, the run that came last. The step is tried again."""
    if not batch.prefix_cache.drop():
        newest = max(batch.admitted(), key=lambda sequence: sequence.arrival).run
        end(batch, error, [sequence for sequence in batch.everyone() if sequence.run is newest])


def end(batch: Failing, error: Exception, sequences: list[Sequence]) -> None:
    """End sequences with an error, and clear them out."""
    log.error("a step of the model failed", exc_info=error)
    for sequence in list(sequences):
        batch.delivery.finish(sequence, FinishReason.ERROR, what_failed(error))
    batch.sweep()
