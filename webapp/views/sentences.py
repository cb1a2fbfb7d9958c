"""What a page says of a run in words: where it stands, how it ended, how long, how many, how probable."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from generate import LISTS, OPTIONS, FinishReason, Outlook, RunLog, RunState, counted
from webapp.runs.kinds import Relation
from webapp.runs.transcript import Transcript
from webapp.views.presets import USUAL
from webapp.views.surprise import verdict

STATES = {
    RunState.PAUSED: "The server that wrote this has stopped; it goes on in a moment.",
    RunState.LOADING: "Loading the model {model}…",
    RunState.READING: "Reading the prompt…{again}",
    RunState.WRITING: "Writing…{again}",
}
AGAIN = " It was interrupted once; nothing is lost."
REPLAYED = {RunState.LOADING: "loading the model", RunState.READING: "reading the prompt"}  # states of a replay
ENDINGS = {
    FinishReason.STOP: "The model ended its text after {tokens}.",
    FinishReason.LENGTH: "Stopped at its length: {tokens}.",
    FinishReason.CANCELLED: "Stopped after {tokens}.",
    FinishReason.UNWATCHED: "Stopped at token {count:,}: no page was connected to it.",
    FinishReason.YIELDED: "Gave way to another text after {tokens}.",
    FinishReason.ERROR: "Something went wrong.",
}
RELATIONS = {
    Relation.CONTINUE: "goes on",
    Relation.RETRY: "another try",
    Relation.EDIT: "edited",
    Relation.FORK: "another word",
    Relation.PICK: "a sample by itself",
    Relation.BESIDE: "another model",
    Relation.SCORE: "read by another model",
    None: "the beginning",
}
AT_SENTENCE = "Stopped at a sentence: {count:,} of {tokens}."
DELETED = "Deleted."
RARE = {option.name: USUAL[option.name] for option in OPTIONS + LISTS if option.more}
TITLES = {option.name: option.title for option in OPTIONS + LISTS}
OFF = {option.name: option.off for option in OPTIONS if option.off is not None}


def status(log: RunLog, model: str, problem: str | None = None) -> str:
    """Where a run stands that `model` writes; "" for a single sample that has ended, whose ending says it.

    `problem` is why the engine is not ready, if it is not.
    """
    if log.state == RunState.WAITING:
        return problem or f"Waiting in line: {ordinal(log.place)}{how_long(log.seconds)}."
    if log.state in STATES:
        return STATES[log.state].format(model=model, again=AGAIN if log.restarts else "")
    if len(log.samples) > 1:
        return f"Done: {len(log.samples)} samples, {counted(sum(map(len, log.samples)))}."
    return ""


def with_title(sentence: str, field: str | None) -> str:
    """What was refused, which names a `field` as programs do, with the name before it that an option has on the page."""
    return f"{TITLES[field]}: {sentence}" if field in TITLES else sentence


def told_options(options: Mapping) -> list[tuple]:
    """What a run was asked for: (plain name, name, value) of each option that most people know, and of the others where it
    matters. The value is "off" where the option does nothing.
    """
    told = {name: value for name, value in options.items() if name != "preset" and value != RARE.get(name, [])}
    return [(TITLES.get(name, name), name, "off" if value == OFF.get(name) else value) for name, value in told.items()]


def ending(run: Transcript, options: Mapping, number: int, model: str) -> str:
    """How sample `number` of a run of `model` with these options ended, or ""."""
    sample = run.log.samples[number]
    reason, tokens = sample.finish_reason, counted(len(sample))
    if reason == FinishReason.LENGTH and options["max_new_tokens"] == 0:
        return verdict(run, model)
    if reason == FinishReason.LENGTH and len(sample) < options["max_new_tokens"]:
        return AT_SENTENCE.format(count=len(sample), tokens=counted(options["max_new_tokens"]))
    if reason == FinishReason.ERROR and sample.error:
        return str(sample.error)
    if reason == FinishReason.UNWATCHED and not len(sample):
        return "Left the line: no page was connected to it."
    if reason == FinishReason.STOP and options["stop"] and sample.size(run.vocabulary) != sample.text_end:
        return f"Reached a stop string after {tokens}; Continue goes on past it."
    return ENDINGS[reason].format(tokens=tokens, count=len(sample)) if reason in ENDINGS else ""


def watched_by(viewers: int) -> str:
    """As in `3 watching`; nothing for one who watches alone."""
    return f"{viewers} watching" if viewers > 1 else ""


def how_long(seconds: float | None) -> str:
    """An estimate in words, rounded as such things are said."""
    if seconds is None or seconds < 1:
        return ""
    if seconds < 90:
        return f", about {5 * max(1, round(seconds / 5))} seconds"
    return f", about {round(seconds / 60)} minutes"


def ordinal(number: int) -> str:
    """As in `1st`, `2nd`, `11th`."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def moment(when: datetime) -> str:
    """A moment of UTC as the pages write one: `7 March 2026, 14:05 UTC`."""
    return f"{when:%-d %B %Y, %H:%M} UTC"


def share(logprob: float | None) -> str:
    """A probability as a person reads it: `12 %`, `0.34 %`, `1 in 52,000`."""
    if logprob is None or math.isnan(logprob):
        return ""
    percent = 100 * math.exp(logprob)
    if percent >= 9.95:
        return f"{percent:.0f} %"
    if percent >= 0.1:
        return f"{percent:.2g} %"
    return f"1 in {math.exp(-logprob):,.0f}" if logprob > -40 else "next to never"


def not_told(what: Sequence[str]) -> str:
    """What a page says in place of what it does not know: `Its rank and the entropy are not told by this engine.`"""
    if not what:
        return ""
    *others, last = what
    named = f"{', '.join(others)} and {last}" if others else last
    return f"{named[0].upper()}{named[1:]} {'are' if others else 'is'} not told by this engine."


def outlook(now: Outlook) -> str:
    """One sentence on how long a run would have to wait that was sent now."""
    if not now.writing and not now.waiting:
        return "Nobody is writing; yours begins at once."
    writing = "One text is being written" if now.writing == 1 else f"{now.writing} texts are being written"
    if now.full:
        return f"{writing} and the line is full; please come back in a while."
    if not now.waiting and now.seconds == 0:
        return f"{writing}; there is room for yours."
    waiting = f" and {now.waiting} wait{'s' if now.waiting == 1 else ''} in line" if now.waiting else ""
    begins = (
        f"yours would begin in{about.removeprefix(',')}" if (about := how_long(now.seconds)) else "yours would wait"
    )
    return f"{writing}{waiting}; {begins}."
