"""A replay in words: how far it is, whether it says the same, and where it does not, why."""

import numpy as np

from generate import RunLog, RunState, Vocabulary, counted
from webapp.runs.replays import Replay, Written, first_difference
from webapp.views.sentences import REPLAYED, how_long, ordinal
from webapp.views.tokens import VISIBLE

EXACT = ("float32", "int8")  # precisions in which a run writes the same tokens in whatever company

NAMELESS = ("the end marker", "a special token")  # tokens without a text; of several, nobody tells which ends one


def progress(replay: Replay) -> str:
    """How far it is, in a few words."""
    log = replay.log
    if log is None:
        return ""
    if log.state == RunState.WAITING:
        return f"waiting in line, {ordinal(log.place)}{how_long(log.seconds)}"
    if log.state in REPLAYED:
        return REPLAYED[log.state]
    # a sample that was stopped may be longer now than then
    there = sum(min(len(new), len(ids)) for new, ids in zip(log.samples, replay.written.ids, strict=True))
    return f"{there:,} of {counted(sum(map(len, replay.written.ids)))}"


def judge(written: Written, log: RunLog) -> str | None:
    """The verdict on what there is of a replay, or None while nothing differs and more is to come."""
    with log.changed:
        over = log.done
        again = [(sample.read()["id"], sample.finish_reason, sample.error) for sample in log.samples]
    place = first_difference(written, [(ids, reason) for ids, reason, _ in again])
    error = next((problem for _, _, problem in again if problem), None)
    if place is not None:
        number, token = place
        return f"{difference(written, again[number][0], number, token)} {reasons(written, log)}"
    if error:
        return f"It could not be written again to its end: {error}"
    if over:
        several = f" in {len(written.ids)} samples" if len(written.ids) > 1 else ""
        return f"Identical: {counted(sum(map(len, written.ids)))}{several}."
    return None


def difference(written: Written, again: np.ndarray, number: int, place: int) -> str:
    """One sentence on a token that differs."""
    then, now = written.ids[number], again
    which = f"The {ordinal(place + 1)} token{f' of sample {number + 1}' if len(written.ids) > 1 else ''} differs"
    if place >= len(now):
        return f"{which}: here it said {quoted(written.vocabulary, then[place])}, now the text ends there."
    if place >= len(then):
        return f"{which}: here the text ended, now it goes on with {quoted(written.vocabulary, now[place])}."
    return f"{which}: here it said {quoted(written.vocabulary, then[place])}, now {quoted(written.vocabulary, now[place])}."


def quoted(vocabulary: Vocabulary, index: int) -> str:
    """A token as a sentence names it: its text, its bytes where they are no whole characters, or that it has none."""
    data = vocabulary.tokens[index]
    try:
        return f"“{data.decode().translate(VISIBLE)}”" if data else NAMELESS[len(vocabulary.special) > 1]
    except UnicodeDecodeError:
        return f"‹{data.hex(' ').upper()}›"


def reasons(written: Written, log: RunLog) -> str:
    """Why a run may differ now, as far as that is known."""
    found = []
    if written.fingerprint and log.fingerprint and written.fingerprint != log.fingerprint:
        found.append(f"The weights are others now ({log.fingerprint[:12]}; then {written.fingerprint[:12]}).")
    if written.precision and log.precision and written.precision != log.precision:
        found.append(f"It was written in {written.precision}, and now in {log.precision}.")
    if written.device and log.device and written.device != log.device:
        found.append(f"It was written on {written.device}, and now on {log.device}.")
    if not found and log.precision and log.precision not in EXACT:
        found.append(
            f"In {log.precision} rounding can turn a token when a run was interrupted or written in other company."
        )
    return " ".join(found) or "Why cannot be told."
