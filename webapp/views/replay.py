"""A replay in words: how far it is, whether it says the same, and where it does not, why."""

import numpy as np

from generate import N_, RunLog, RunState, Vocabulary, counted, gettext, languages
from webapp.runs.replays import Replay, Written, first_difference
from webapp.views.sentences import REPLAYED, how_long, ordinal
from webapp.views.tokens import VISIBLE

EXACT = ("float32", "int8")  # precisions in which a run writes the same tokens in whatever company

NAMELESS = (
    N_("the end marker"),
    N_("a special token"),
)  # tokens without a text; of several, nobody tells which ends one


def progress(replay: Replay) -> str:
    """How far it is, in a few words."""
    log = replay.log
    if log is None:
        return ""
    if log.state == RunState.WAITING:
        return gettext("waiting in line, {nth}{about}", nth=ordinal(log.place), about=how_long(log.seconds))
    if log.state in REPLAYED:
        return gettext(REPLAYED[log.state])
    # a sample that was stopped may be longer now than then
    there = sum(min(len(new), len(ids)) for new, ids in zip(log.samples, replay.written.ids, strict=True))
    return gettext("{done:,} of {tokens}", done=there, tokens=counted(sum(map(len, replay.written.ids))))


def judge(written: Written, log: RunLog) -> str | None:
    """The verdict on what there is of a replay, or None while nothing differs and more is to come."""
    with log.changed:
        over = log.done
        again = [(sample.read()["id"], sample.finish_reason, sample.error) for sample in log.samples]
    place = first_difference(written, [(ids, reason) for ids, reason, _ in again])
    error = next((problem for _, _, problem in again if problem), None)
    if place is not None:
        number, token = place
        return languages.spaced((difference(written, again[number][0], number, token), reasons(written, log)))
    if error:
        return gettext("It could not be written again to its end: {error}", error=error)
    if over:
        tokens = counted(sum(map(len, written.ids)))
        if len(written.ids) > 1:
            return gettext("Identical: {tokens} in {count} samples.", tokens=tokens, count=len(written.ids))
        return gettext("Identical: {tokens}.", tokens=tokens)
    return None


def difference(written: Written, again: np.ndarray, number: int, place: int) -> str:
    """One sentence on a token that differs."""
    then, now = written.ids[number], again
    which = gettext("The {nth} token differs", nth=ordinal(place + 1))
    if len(written.ids) > 1:
        which = gettext("The {nth} token of sample {number} differs", nth=ordinal(place + 1), number=number + 1)
    before, after = (quoted(written.vocabulary, ids[place]) if place < len(ids) else None for ids in (then, now))
    if after is None:
        return gettext("{which}: here it said {before}, now the text ends there.", which=which, before=before)
    if before is None:
        return gettext("{which}: here the text ended, now it goes on with {after}.", which=which, after=after)
    return gettext("{which}: here it said {before}, now {after}.", which=which, before=before, after=after)


def quoted(vocabulary: Vocabulary, index: int) -> str:
    """A token as a sentence names it: its text, its bytes where they are no whole characters, or that it has none."""
    data = vocabulary.tokens[index]
    try:
        return f"“{data.decode().translate(VISIBLE)}”" if data else gettext(NAMELESS[len(vocabulary.special) > 1])
    except UnicodeDecodeError:
        return f"‹{data.hex(' ').upper()}›"


def reasons(written: Written, log: RunLog) -> str:
    """Why a run may differ now, as far as that is known."""
    found = []
    if written.fingerprint and log.fingerprint and written.fingerprint != log.fingerprint:
        others = N_("The weights are others now ({now}; then {then}).")
        if written.earlier:
            others = N_("It was written by the earlier {model} ({then}); the weights are others now ({now}).")
        model, now, then = written.earlier, log.fingerprint[:12], written.fingerprint[:12]
        found.append(gettext(others, model=model, now=now, then=then))
    if written.precision and log.precision and written.precision != log.precision:
        in_others = N_("It was written in {then}, and now in {now}.")
        found.append(gettext(in_others, then=written.precision, now=log.precision))
    if written.device and log.device and written.device != log.device:
        found.append(gettext("It was written on {then}, and now on {now}.", then=written.device, now=log.device))
    if not found and log.precision and log.precision not in EXACT:
        found.append(
            gettext(
                "In {precision} rounding can turn a token when a run was interrupted or written in other company.",
                precision=log.precision,
            )
        )
    return languages.spaced(found) or gettext("Why cannot be told.")
